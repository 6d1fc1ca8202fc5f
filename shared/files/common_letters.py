"""Letters by which the guess of an encoding knows languages. The letters of a to z are in all of them."""

# By language; the encodings of Western Europe hold them all, and one file may have names in several.
WESTERN = (
    "äöüßéè",  # German
    "àâæçéèêëîïôœùûüÿ",  # French
    "áàéèíïóòñúüç",  # Spanish, Catalan
    "áâãàçéêíóôõúü",  # Portuguese
    "àèéìòóù",  # Italian
    "åäöéüà",  # Swedish, Finnish
    "æøåéäöüò",  # Danish, Norwegian
    "éèëïöüáíóúñ",  # Dutch, and names
)
ICELANDIC = "áéíóúýþæöð"
TURKISH = "çğıİöşüâîû"
CENTRAL_EUROPEAN = {
    "Polish": "ąćęłńóśźż",
    "Czech": "áčďéěíňóřšťúůýžöü",
    "Slovak": "áäčďéíĺľňóôŕšťúýžö",
    "Hungarian": "áéíóöőúüű",
    "Croatian or Slovenian": "čćđšž",
    "Romanian": "ăâîşţ",
}
CYRILLIC = {
    "Russian": "абвгдеёжзийклмнопрстуфхцчшщъыьэюя",
    "Ukrainian": "абвгґдеєжзиіїйклмнопрстуфхцчшщьюя",
    "Bulgarian or Serbian": "абвгдежзийклмнопрстуфхцчшщъьюяђјљњћџ",
}
CYRILLIC_COMMON = "оеаинтсрвлкмдпуяіь"
GREEK = "αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋΐΰ"
GREEK_COMMON = "αοιετσνηυρκπςλίάόή"
# Without points; with them, words are not found in customers' files.
HEBREW = "אבגדהוזחטיךכלםמןנסעףפץצקרשת"
HEBREW_COMMON = "יוהלאמרתנבשםד"
ARABIC = "ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهوىي"
ARABIC_COMMON = "اليمنرتبهدعوةسح"
# Characters of names, places and firms.
CHINESE = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾萧田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严"
    "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀霞平刚桂英华玉兰红建国文志海波鹏宇婷雪琳晨浩欣怡佳子涵小春梅燕"
    "北京市上海广州深圳天津重庆成都武汉杭南西安省区县路街号中东有限公司科技股份男女是否大学客户姓名城市地址电话年月日"
)
TAIWANESE = (
    "陳林黃張李王吳劉蔡楊許鄭謝郭洪邱曾廖賴徐周葉蘇莊呂江何蕭羅高潘簡朱鍾彭游詹胡施沈余盧梁趙顏柯翁魏孫戴范方宋鄧杜傅侯曹"
    "志明俊傑家豪雅婷怡君美玲淑芬惠華宗緯建國文雄玉珍秀英麗雲芳宏偉欣佩珊慧娟靜宜安子德依花"
    "臺台北中南高雄市新竹縣區路街號段巷有限公司股份科技男女是否大學客戶姓名城市地址電話年月日東西香港九龍"
)
JAPANESE = (
    "佐藤鈴木高橋田中伊渡辺山本村小林加吉井口松清水斎崎森池阿部石川前後岡長谷近野原上下大島西南北東京都道府県市区町"
    "太郎花子一二三美恵幸和明正義雄夫弘博健誠真由香菜愛翔陽結優也介健之央浩智洋横浜神戸福岡札幌名古屋仙台千葉埼玉広阪奈"
    "株式会社有限銀行支店男女氏名住所電話番号年月日顧客様丁目"
)
KOREAN = (
    "김이박최정강조윤장임한오서신권황안송류전홍고문양손배백허유남심노하곽성차주우구민진지나엄채원천방공현함변염여추도소석선설마길연위표명기반왕금옥육인맹제모"
    "영수철호준민서윤예은우지훈혜경미숙자희순정아라빈솔별재범동엽세진무"
    "울산부대구인천광주경기도시군읍면로번길동특별자치강남북충청전라제회사식남여"
)
