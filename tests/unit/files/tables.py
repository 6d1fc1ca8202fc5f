"""Small tables of customers in the words of many languages. They are not the words by which encodings are guessed."""

# ruff: noqa: RUF001

import random

# By language: the encodings that such files have, and some names, places and words.
LANGUAGES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "German": (
        ("cp1252", "iso8859-15", "cp850", "mac-roman"),
        ("Kühn", "Düsseldorf", "Grüße", "Lübeck", "Schäfer", "Würzburg", "Jörg", "Groß", "Österreich", "Mühle"),
    ),
    "French": (
        ("cp1252", "iso8859-15", "mac-roman"),
        ("Amélie", "Besançon", "Théo", "Nîmes", "Crépin", "Angoulême", "Élodie", "Rhône", "Maëlle", "Père"),
    ),
    "Italian": (
        ("cp1252", "latin-1"),
        ("Agrò", "Canicattì", "Virtù", "Lucà", "Però", "Nardò", "Qualità", "Scalò", "Mercoledì", "Giosuè"),
    ),
    "Spanish": (
        ("cp1252", "latin-1"),
        ("Begoña", "Logroño", "Ramírez", "Álvaro", "Cáceres", "Hernández", "Mérida", "Raúl", "Castellón", "Iñaki"),
    ),
    "Portuguese": (
        ("cp1252",),
        ("Brandão", "Goiânia", "Mônica", "Vitória", "Paixão", "Assunção", "Patrícia", "Maceió", "Zé", "Irmãos"),
    ),
    "Swedish": (
        ("cp1252",),
        ("Ström", "Västerås", "Åkesson", "Örebro", "Söderberg", "Gävle", "Sjögren", "Luleå", "Öberg", "Hägg"),
    ),
    "Polish": (
        ("cp1250", "iso8859-2"),
        ("Błaszczyk", "Częstochowa", "Ściborski", "Rzeszów", "Góra", "Wałbrzych", "Żukowska", "Toruń", "Mróz", "Śląsk"),
    ),
    "Czech": (
        ("cp1250", "iso8859-2"),
        ("Svobodová", "Třebíč", "Řezníček", "Děčín", "Hájek", "Žďár", "Kučerová", "Opařany", "Bartoš", "Štěpán"),
    ),
    "Hungarian": (
        ("cp1250",),
        ("Hegedűs", "Kőszeg", "Gyöngyös", "Erdős", "Szabó", "Hódmezővásárhely", "Fűzfő", "Tünde", "Lőrinc", "Gödöllő"),
    ),
    "Turkish": (
        ("cp1254",),
        ("Kaplanoğlu", "Eskişehir", "Çetin", "Balıkesir", "Şimşek", "Muş", "Yıldırım", "Niğde", "Ünal", "Işıl"),
    ),
    "Russian": (
        ("cp1251", "koi8-r"),
        ("Лебедев", "Саратов", "Галина", "Пермь", "Морозова", "Иркутск", "Дмитрий", "Самара", "Зайцев", "Уфа"),
    ),
    "Greek": (
        ("cp1253",),
        ("Αντώνης", "Χανιά", "Κατερίνα", "Καβάλα", "Γεωργίου", "Τρίκαλα", "Σπύρος", "Καλαμάτα", "Οικονόμου", "Λαμία"),
    ),
    "Hebrew": (
        ("cp1255",),
        ("כהן", "ירושלים", "רחל", "תל אביב", "משה", "חיפה", "לוי", "באר שבע", "פרץ", "נתניה"),
    ),
    "Arabic": (
        ("cp1256",),
        ("محمد", "القاهرة", "فاطمة", "الرياض", "أحمد", "بيروت", "علي", "بغداد", "مريم", "دمشق"),
    ),
    "Japanese": (
        ("shift_jis", "cp932", "euc_jp"),
        ("吉田", "静岡県", "加藤 恵子", "札幌市", "山口 健", "ひかり商店", "長野", "松本 さやか", "ミドリ電機", "奈良"),
    ),
    "Chinese (simplified)": (
        ("gb18030", "gbk"),
        ("张伟", "杭州市", "王秀英", "南京", "李建军", "科技有限公司", "重庆", "赵静", "长沙", "贵阳市"),
    ),
    "Chinese (traditional)": (
        ("big5",),
        ("陳志偉", "桃園市", "林美惠", "嘉義", "黃建宏", "貿易有限公司", "屏東", "吳佩珊", "宜蘭", "彰化縣"),
    ),
    "Korean": (
        ("euc_kr", "cp949"),
        ("김영수", "수원시", "박은지", "창원", "이상훈", "전자 주식회사", "제주", "최민호", "춘천시", "여수"),
    ),
}
PLAIN = ("Anna", "Marco", "gold", "closed", "Rome", "new", "Weber", "Smith")
CASES = [(language, encoding) for language, (encodings, _) in LANGUAGES.items() for encoding in encodings]


def table_in(language: str, rows: int, *, share: float = 1, seed: int = 0) -> str:
    """Returns a CSV of customers; `share` of its names and cities are in the language, the others in ASCII."""
    chosen = random.Random(seed)  # noqa: S311 - test data
    _, words = LANGUAGES[language]

    def word(position: int) -> str:
        return words[position % len(words)] if chosen.random() < share else chosen.choice(PLAIN)

    lines = ["id,name,city,status,amount"]
    for row in range(rows):
        position = chosen.randrange(len(words))
        lines.append(f"{row},{word(position)},{word(position + 1)},{chosen.choice(PLAIN)},{row * 7 % 90}.25")
    return "\n".join([*lines, ""])
