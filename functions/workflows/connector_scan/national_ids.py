"""Numbers by which states know persons: their forms, their check digits, and the names of columns that hold them."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from stdnum.at import vnr
from stdnum.au import tfn
from stdnum.be import nn
from stdnum.bg import egn
from stdnum.br import cpf
from stdnum.ca import sin
from stdnum.ch import ssn as ahv
from stdnum.cl import rut
from stdnum.cn import ric
from stdnum.cz import rc
from stdnum.de import idnr
from stdnum.dk import cpr
from stdnum.ee import ik
from stdnum.es import nif
from stdnum.fi import hetu
from stdnum.fr import nir
from stdnum.gb import nhs
from stdnum.gr import amka
from stdnum.hr import oib
from stdnum.ie import pps
from stdnum.il import idnr as teudat_zehut
from stdnum.in_ import aadhaar
from stdnum.it import codicefiscale
from stdnum.kr import rrn
from stdnum.lt import asmens
from stdnum.mx import curp
from stdnum.nl import bsn
from stdnum.no import fodselsnummer
from stdnum.pl import pesel
from stdnum.pt import nif as contribuinte
from stdnum.ro import cnp
from stdnum.se import personnummer
from stdnum.tr import tckimlik
from stdnum.us import ssn
from stdnum.za import idnr as za_id

_ELEVEN = r"\d{11}"


@dataclass(frozen=True)
class NationalId:
    """The numbers of one country.

    One random number in ``accidents`` passes the check. Values prove the kind under any name only if that is rare;
    else the column needs one of the names.
    """

    country: str
    module: ModuleType
    form: str
    names: tuple[str, ...]
    accidents: int

    def check(self) -> Callable[[str], bool]:
        """Returns a test of one value. The form comes first, because most values fail it and it is fast."""
        form = re.compile(self.form, re.IGNORECASE)

        def fits(value: str) -> bool:
            return form.fullmatch(value) is not None and self._is_valid(value)

        return fits

    def _is_valid(self, value: str) -> bool:
        try:
            return bool(self.module.is_valid(value))
        except (LookupError, ValueError):
            # Some modules trip over places or days that do not exist.
            return False


NATIONAL_IDS = (
    # With letters, two check digits, or a date of birth and a check digit.
    NationalId("Italian", codicefiscale, r"[A-Z]{6}[0-9A-Z]{9}[A-Z]", ("codice_fiscale", "cod_fisc", "cf"), 10_000),
    NationalId("Spanish", nif, r"[0-9XYZ]\d{7}-?[A-Z]", ("dni", "nie", "nif"), 600),
    NationalId("French", nir, r"[1-478](?: ?[0-9AB]){14}", ("nir", "insee", "securite_sociale"), 10_000),
    NationalId("Belgian", nn, r"\d\d\.?\d\d\.?\d\d-?\d{3}\.?\d\d", ("rijksregister(?:nummer)?", "nrn", "insz"), 1_000),
    NationalId("Swedish", personnummer, r"(?:\d\d)?\d{6}[-+]?\d{4}", ("personn(?:umme)?r", "pnr"), 250),
    NationalId("Norwegian", fodselsnummer, r"\d{6} ?\d{5}", ("f[oø]dselsn(?:umme)?r", "fnr"), 3_000),
    NationalId("Finnish", hetu, r"\d{6}[-+A-FU-Y]\d{3}[0-9A-Y]", ("hetu", "henkil[oö]tunnus"), 10_000),
    NationalId("Polish", pesel, _ELEVEN, ("pesel",), 55),
    NationalId("Czech or Slovak", rc, r"\d{6}/\d{3,4}|\d{10}", ("rodne_cislo", "rc"), 75),
    NationalId("Romanian", cnp, r"[1-9]\d{12}", ("cnp",), 400),
    NationalId("Bulgarian", egn, r"\d{10}", ("egn", "егн"), 100),
    NationalId("Greek", amka, _ELEVEN, ("amka", "αμκα"), 250),
    NationalId("Estonian", ik, r"[1-8]\d{10}", ("isikukood",), 250),
    NationalId("Lithuanian", asmens, r"[1-8]\d{10}", ("asmens_kodas",), 250),
    NationalId("Austrian", vnr, r"\d{4} ?\d{6}", ("svnr", "sozialversicherungsn(?:umme)?r"), 300),
    NationalId("Swiss", ahv, r"756\.?\d{4}\.?\d{4}\.?\d\d", ("ahv", "avs", "ahvn13"), 10_000),
    NationalId("Irish", pps, r"\d{7}[A-W][ABHWTX]?", ("ppsn?",), 600),
    NationalId("Turkish", tckimlik, r"[1-9]\d{10}", ("tckn", "tc_?kimlik(?:_no)?"), 100),
    NationalId("Brazilian", cpf, r"\d{3}\.?\d{3}\.?\d{3}-?\d\d", ("cpf",), 100),
    NationalId("Mexican", curp, r"[A-Z]{4}\d{6}[A-Z0-9]{8}", ("curp",), 10_000),
    NationalId("Chilean", rut, r"\d{1,2}\.\d{3}\.\d{3}-[\dK]", ("rut", "run"), 1_000),
    NationalId("Chinese", ric, r"\d{17}[\dX]", ("身份证(?:号码?)?", "id_card"), 1_000),
    NationalId("Korean", rrn, r"\d{6}-?\d{7}", ("rrn", "주민등록번호"), 400),
    NationalId("South African", za_id, r"\d{13}", ("sa_id", "rsa_id"), 1_000),
    NationalId("US", ssn, r"\d{3}-\d{2}-\d{4}", ("ssn", "social_security"), 1_000),
    # A number with one check digit, or none: many numbers of orders and accounts pass it, too.
    NationalId("Dutch", bsn, r"\d{9}", ("bsn", "sofin(?:umme)?r", "burgerservicenummer"), 11),
    NationalId("German", idnr, r"\d{2} ?\d{3} ?\d{3} ?\d{3}", ("steuer_?id(?:n?r)?", "idn?r", "steueridn?r"), 30),
    NationalId("Portuguese", contribuinte, r"\d{9}", ("nif", "contribuinte"), 11),
    NationalId("Croatian", oib, _ELEVEN, ("oib",), 10),
    NationalId("Danish", cpr, r"\d{6}-?\d{4}", ("cpr(?:_?n(?:umme)?r)?",), 28),
    NationalId("Canadian", sin, r"\d{3}[ -]?\d{3}[ -]?\d{3}", ("sin", "social_insurance"), 10),
    NationalId("Australian", tfn, r"\d{3} ?\d{3} ?\d{2,3}", ("tfn", "tax_file"), 11),
    NationalId("British", nhs, r"\d{3} ?\d{3} ?\d{4}", ("nhs(?:_?n(?:umber|o))?",), 11),
    NationalId("Indian", aadhaar, r"[2-9]\d{3} ?\d{4} ?\d{4}", ("aadh?aar", "uid"), 10),
    NationalId("Israeli", teudat_zehut, r"\d{9}", ("teudat_zehut", "tz"), 10),
)
