"""Tax ids (纳税人识别号, 税号): what a person typed or pasted, made into one that can be trusted.

Owns the normal form of a tax id and the sentence that says what is wrong with one. It never
repairs: a letter that looks like a digit is named, not replaced, because a wrong tax id that
passes is a foreign company's disk. No Django, no database.

Sources: GB 32100-2015 with its first amendment (unified social credit code, 18 characters; check
digit by python-stdnum); numbers of 15 and 20 characters were given out before October 2015.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from stdnum.cn import ric, uscc


def N_(text: str) -> str:
    """Mark ``text`` for the catalogue of translations (this layer sees none of ``devices``)."""
    return text


@dataclass(frozen=True, slots=True)
class TaxId:
    """A tax id in normal form: half-width, upper case, no spaces.

    ``legacy``: a number of 15 or 20 characters, which carries no check digit.
    """

    value: str
    legacy: bool = False

    def __str__(self) -> str:
        return self.value


class TaxIdError(ValueError):
    """Not a tax id; the message is one Chinese sentence for an accountant.

    ``template`` and ``params`` are kept apart for who shows it in another language.
    """

    def __init__(self, template: str, **params: object) -> None:
        super().__init__(template.format(**params))
        self.template = template
        self.params = params


EMPTY = N_("税号为空, 请填写统一社会信用代码。")
EXCEL_FORM = N_(
    "“{text}” 是 Excel 把税号当成数字后的写法, 后几位已经丢失; "
    "请把该列设为文本格式, 再按营业执照重新填写。"
)
EXCEL_ZEROS = N_(
    "税号第 16 位起全是 0, 很可能被 Excel 当成数字, 后几位已经丢失; "
    "请把该列设为文本格式, 再按营业执照重新填写。"
)
STRANGE = N_("税号里有不应出现的字符 {characters}, 税号只由数字和大写字母组成。")
LENGTH = N_("税号应为 18 位 (旧税号为 15 位或 20 位), 现为 {length} 位: {value}。")
LETTERS = N_(
    "第 {places} 位是字母 {letters}; 统一社会信用代码不使用字母 I、O、S、V、Z, "
    "请核对是否应为数字 (I→1, O→0, S→5, Z→2)。"
)
BODY = N_(
    "税号第 {place} 位 “{character}” 不对: 统一社会信用代码第 1 位为数字或字母 A、N、Y, "
    "第 2 至 8 位都是数字。"
)
CHECK_DIGIT = N_(
    "校验位不符: 按前 17 位, 末位应为 {expected}, 现为 {actual}; 请对照营业执照逐位核对。"
)
PERSON = N_("这 18 位是身份证号, 不是税号; 个体工商户请填营业执照上的统一社会信用代码。")
LEGACY_REGION = N_("15 位旧税号的前 6 位应为行政区划数字, 现为 {region}; 请核对是否少填了几位。")
LEGACY_ONE = N_("税号的每一位都是 {character}, 不是真实的税号。")

_FORBIDDEN = "IOSVZ"
_SCIENTIFIC = re.compile(r"[0-9](\.[0-9]*)?E[+-]?[0-9]{1,3}")
_DECIMAL = re.compile(r"[0-9]{10,20}\.0*")
_CREDIT_CODE_HEAD = re.compile(r"[1-9ANY][0-9]{7}")
_EXCEL_DIGITS = 15


def check_tax_id(text: str) -> TaxId:
    """Bring ``text`` into normal form and prove it as far as it can be proven.

    18 characters: a unified social credit code whose check digit is right. 15 or 20 characters: an
    older number, taken as it is and marked ``legacy``. Raises TaxIdError for everything else.
    """
    value = normalise(text)
    if not value:
        raise TaxIdError(EMPTY)
    if _SCIENTIFIC.fullmatch(value) or _DECIMAL.fullmatch(value):
        raise TaxIdError(EXCEL_FORM, text=value)
    strange = [c for c in dict.fromkeys(value) if not (c.isascii() and c.isalnum())]
    if strange:
        raise TaxIdError(STRANGE, characters=" ".join(f"“{c}”" for c in strange))
    if len(value) == 18:
        return _credit_code(value)
    if _lost_digits(value):
        raise TaxIdError(EXCEL_ZEROS)
    if len(value) in (15, 20):
        return _legacy(value)
    raise TaxIdError(LENGTH, length=len(value), value=value)


def normalise(text: str) -> str:
    """Half-width, upper case, without spaces, invisible characters and Excel's leading ``'``."""
    wide = unicodedata.normalize("NFKC", text)
    seen = "".join(c for c in wide if unicodedata.category(c) not in ("Zs", "Cc", "Cf"))
    return seen.lstrip("'‘’").upper()


def _credit_code(value: str) -> TaxId:
    letters = [(place, c) for place, c in enumerate(value, 1) if c in _FORBIDDEN]
    if letters:
        raise TaxIdError(
            LETTERS,
            places="、".join(str(place) for place, _ in letters),
            letters="、".join(dict.fromkeys(c for _, c in letters)),
        )
    if not _CREDIT_CODE_HEAD.match(value):
        place = next(n for n in range(1, 9) if not _head_fits(value[:n]))
        raise TaxIdError(BODY, place=place, character=value[place - 1])
    # Not uscc.validate(): it refuses the registration authorities A, N and Y of GB 32100.
    expected = uscc.calc_check_digit(value)
    if value[-1] == expected:
        return TaxId(value)
    if _lost_digits(value):
        raise TaxIdError(EXCEL_ZEROS)
    if ric.is_valid(value):
        raise TaxIdError(PERSON)
    raise TaxIdError(CHECK_DIGIT, expected=expected, actual=value[-1])


def _head_fits(head: str) -> bool:
    """Whether the first one to eight characters can begin a credit code."""
    return _CREDIT_CODE_HEAD.match(head.ljust(8, "0")) is not None


def _legacy(value: str) -> TaxId:
    if len(set(value)) == 1:
        raise TaxIdError(LEGACY_ONE, character=value[0])
    if len(value) == 15 and not value[:6].isdigit():
        raise TaxIdError(LEGACY_REGION, region=value[:6])
    return TaxId(value, legacy=True)


def _lost_digits(value: str) -> bool:
    """Whether this is a number as Excel keeps it: fifteen significant digits, then zeros."""
    return value.isdigit() and len(value) > _EXCEL_DIGITS and not value[_EXCEL_DIGITS:].strip("0")
