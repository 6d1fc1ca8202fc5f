"""Recognises the language of a text by its function words, which every sentence of some length has."""

import re
from collections.abc import Mapping

_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile(r"[a-z\u00df-\u024f]+")


def _sets(words: Mapping[str, str]) -> dict[str, frozenset[str]]:
    return {language: frozenset(text.split()) for language, text in words.items()}


_KNOWN = _sets(
    {
        "de": "aber als am auf aus bei beträgt bietet bis bitte da dank das dass dem den der die des dich diese dieser "
        "dieses dir durch ein eine einem einen einer für geehrte geehrter haben hat ihnen ihr ihre ihrem "
        "ihren ihrer im ist ja jetzt jährlich kein keine kostet können liebe lieber liegt man mein mit "
        "monatlich nach nicht noch nun nur ob oder ohne passt pro sehr seit sich sie sind so um und uns unser "
        "unsere unseren verdienen vom von vor was wenn werden wie wir wird wurde zu zum zur über",
        "en": "a about abroad after all an and are as at be been but by can could dear do does earn every excite "
        "for from get has have he her his how i if in insured is it its joined likes lives more my no not of "
        "offer offers on or our over own owns rent rents risk she should so takes than that the their them "
        "there they this to up us was we were what when will with would you your yours",
        "es": "a ahora al años con cuando cuesta de del desde el en es esta este estimada estimado está gana "
        "gracias ha hace hasta hola la las le les lo los muy más no nuestra nuestro o para pero por que "
        "querida querido se si sin sobre son su sus tiene un una usted vive y ya",
        "fr": "ans au aux avec avez ce ceci cela ces cette cher chez chère coûte dans de depuis des du elle en est "
        "et gagnez habitez il je jusqu la le les leur mais ne nos notre nous ou par pas plus pour qu que qui "
        "sa sans se ses son sont sur un une vivez voici vos votre vous êtes être",
        "it": "a al alla anche anni cara caro che ci ciao con costa da dal dalla degli dei del della delle di e "
        "ecco fino gentile gli grazie guadagna ha i il in la le lei lo ma nel nella non nostra nostro o per "
        "più se senza si sono su sua sue sul suo suoi un una uno vive è",
        "pl": "a ale bez by być ci ciebie cię co czy dla do droga drogi dzięki i ich jak jego jej jest już kosztuje "
        "lat lub ma masz mieszka może na nam nasz nasza nasze nie o od oraz pan pana panem pani panią panu "
        "państwa państwu po pod przez przy roku się szanowna szanowny są ta tak ten to tobie twoich twoim "
        "twoja twoje twojego twojej twoją twój u w was wynosi z za ze że",
    }
)
# Languages that nothing else here knows. Without them, they would be taken for their neighbours.
_OTHERS = _sets(
    {
        "cs": "a aby ale bez byl być do jako je jeho jejich jsou jste k která který má můžete na nebo o od po pro s "
        "se si v vaš vaše ve váš z za že",
        "da": "af at de den der deres det din dit du en er et for fra har i ikke jeres kan med og om på som til vi",
        "hu": "a az csak egy hogy is költ meg nem van Ön és ön",
        "nl": "aan als bij dat de deze die dit een en er heeft het hij in is je met naar niet nog of om ons onze op "
        "te tot u uit uw van voor was wij wordt zijn zonder",
        "pt": "ao aos as com da das de do dos e em está foi mais na nas no nos não o os ou para pela pelo por que "
        "se sem seu sua são tem um uma você",
        "ro": "ai al am are ca care ce cu de din dumneavoastră este fi la mai nu o pe pentru prin sau se sunt să un "
        "va în",
        "sv": "att av de den det din ditt du en er ett från för har i inte kan med och om på som till vi är",
        "tr": "bir bu da daha de en ile için ne olan olarak size sizin var ve veya çok",
    }
)
# Words of the product's subject, by which short sentences are recognised.
_SUBJECT = _sets(
    {
        "de": "angebot einkommen gespart guthaben jahr jahre jahren konten konto kredit kunde kundin laufzeit läuft "
        "monat monate monaten monatlich versicherung zahlen zinsen zinssatz",
        "en": "account accounts balance card client costs customer fee income insurance interest loan month months "
        "offer pay rate saved savings year years",
        "es": "años cliente cuenta cuentas cuota gana hay ingresos interés mes meses oferta paga préstamo saldo "
        "seguro tarjeta",
        "fr": "ans assurance carte client cliente compte comptes crédit gagnez intérêts mois offre payez prêt "
        "revenu solde taux y",
        "it": "anni assicurazione carta cliente conti conto finora guadagna interessi mese mesi offerta paga "
        "prestito reddito saldo tasso",
        "pl": "dochód karta klient klientką kont konta konto kredyt kredytu lat lata miesiąc miesiące miesięcy "
        "miesięcznie odsetek oferta oprocentowanie saldo trwa ubezpieczenie",
    }
)
_VOTES = {language: words | _SUBJECT.get(language, frozenset()) for language, words in (_KNOWN | _OTHERS).items()}


LANGUAGES = frozenset(_KNOWN)


def is_function_word(word: str, language: str) -> bool:
    return word.casefold() in _KNOWN.get(language, ())


def language_of(text: str, around: str | None = None) -> str | None:
    """Returns the language of a text, or ``None`` for one that is not known or not certain.

    ``around`` is the language of the whole that the text is a part of. It decides what the text leaves open.
    """
    if not _is_latin(text):
        return None
    best = _best(text)
    if len(best) == 1:
        return best[0] if best[0] in _KNOWN else None
    return around if not best or around in best else None


def is_foreign(text: str) -> bool:
    """Returns whether the text may be in a language that nothing here knows, or in another script."""
    return not _is_latin(text) or not _KNOWN.keys() >= set(_best(text))


def _is_latin(text: str) -> bool:
    words = _WORD.findall(text.casefold())
    return 2 * sum(_LATIN.fullmatch(word) is not None for word in words) >= len(words)


def _best(text: str) -> list[str]:
    """Returns the languages to which most words belong; none if no word belongs to any."""
    words = _WORD.findall(text.casefold())
    votes = {language: sum(word in known for word in words) for language, known in _VOTES.items()}
    most = max(votes.values())
    return [language for language, found in votes.items() if found == most > 0]
