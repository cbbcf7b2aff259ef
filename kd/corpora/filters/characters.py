"""Filters by characters: letters of other scripts than those of the languages, and markup.

The scripts of a language follow from its code. Where the code names a script (`sr-Cyrl`, `zh-Hant`), a line in another
script is rejected, Latin included. Pairs in languages that are not in the table pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from html.entities import html5

import regex

from kd.corpora.filters.contract import FilterConfig, PairFilter
from kd.models.languages import primary, standard

# ISO 639 codes by script; names are those of Unicode's property Script. Sources: CLDR's supplemental data
# ("languageData"), the primary scripts. Languages written in several scripts stand in several lines.
_LANGUAGES = {
    "Latin": "af an ast az bar br bs ca ceb co cs cy da de en eo es et eu ff fi fil fo fr fy ga gd gl gn gsw ha haw hr "
    "hsb ht hu ia id ig is it jv kk ku la lb li ln lt lv mg mi ms mt nb nds nl nn no oc pl pt qu rm ro rw sc sco se sh "
    "sk sl sm sn so sq sr st su sv sw szl tk tl tn tr ts tt ug uz vec vi vo wa war wo xh yo zu",
    "Cyrillic": "ab az ba be bg ce cv kk ky mk mn os ru rue sah sh sr bs tg tk tt udm ug uk uz",
    "Greek": "el grc",
    "Arabic": "ar arz az ckb fa ku ms pa ps sd ug ur uz",
    "Hebrew": "he iw yi",
    "Armenian": "hy",
    "Georgian": "ka",
    "Devanagari": "bh bho hi mai mr ne new sa",
    "Bengali": "as bn bpy",
    "Gurmukhi": "pa",
    "Gujarati": "gu",
    "Oriya": "or",
    "Tamil": "ta",
    "Telugu": "te",
    "Kannada": "kn",
    "Malayalam": "ml",
    "Sinhala": "si",
    "Thai": "th",
    "Lao": "lo",
    "Tibetan": "bo dz",
    "Myanmar": "my",
    "Ethiopic": "am ti",
    "Khmer": "km",
    "Mongolian": "mn",
    "Hangul": "ko",
    "Han": "ja ko wuu yue zh",
    "Hiragana": "ja",
    "Katakana": "ja",
    "Bopomofo": "zh",
}
# ISO 15924 subtags that stand in language codes, where they are no Unicode script's own short name.
_CHINESE = {"tw": "Hant", "hk": "Hant", "mo": "Hant", "cn": "Hans", "sg": "Hans", "my": "Hans"}  # by region
# The commonest characters that exist in one form alone, simplified and traditional (Unihan: kTraditionalVariant).
_PAIRED = (
    "们們这這来來个個时時国國说說会會过過对對发發为為后後经經开開样樣种種还還动動进進实實学學业業问問关關机機"
    "长長见見两兩义義务務头頭总總应應东東车車书書电電话話万萬现現当當给給从從将將让讓没沒觉覺认認识識请請"
    "谢謝气氣听聽写寫读讀买買卖賣钱錢门門间間号號习習爱愛岁歲记記红紅绿綠马馬鱼魚鸟鳥龙龍风風飞飛云雲亿億产產"
    "亲親众眾优優传傳伤傷体體余餘储儲儿兒党黨军軍农農决決况況净淨减減几幾凤鳳击擊划劃刘劉创創剧劇办辦劳勞势勢"
    "区區医醫华華协協单單卢盧卫衛历歷压壓参參双雙变變叶葉吗嗎员員团團园園围圍图圖圆圓圣聖场場块塊坏壞声聲处處"
    "备備复復够夠夺奪奋奮妇婦孙孫宁寧宝寶审審宽寬宾賓导導层層属屬岛島币幣帅帥师師带帶帮幫广廣庄莊庆慶库庫废廢"
    "异異张張弯彎归歸录錄彻徹忆憶态態怀懷惊驚战戰户戶执執扩擴护護报報择擇损損换換据據敌敵数數断斷无無旧舊显顯"
    "术術条條杀殺权權极極标標树樹桥橋检檢楼樓欢歡欧歐毕畢汇匯汉漢沟溝泪淚洁潔测測济濟浓濃涂塗涨漲湿濕满滿"
    "灭滅灯燈灵靈热熱爷爺独獨猎獵环環疗療盘盤盖蓋监監着著矿礦确確礼禮离離穷窮竞競笔筆筑築签簽简簡类類粮糧纠糾"
    "约約级級纪紀纯純纲綱纳納纵縱纸紙纷紛线線练練组組细細织織终終绍紹结結绕繞绘繪络絡绝絕统統继繼绩績续續维維"
)
# Some are written alike in both, or stand for several characters: these say nothing.
_SIMPLIFIED = frozenset(_PAIRED[::2]) - frozenset("着云后几余万划")
_TRADITIONAL = frozenset(_PAIRED[1::2]) - frozenset("著雲後幾餘萬劃")
_SUBTAGS = {"Hans": "Han", "Hant": "Han", "Jpan": "Han Hiragana Katakana", "Kore": "Hangul Han"}


def scripts_of(language: str) -> tuple[str, ...]:
    """Return the Unicode scripts that a language (a BCP-47 code) is written in; none for an unknown one."""
    if named := named_script(language):
        return tuple(name for name in _SUBTAGS.get(named, named).split() if _is_script(name))
    code = primary(language)
    return tuple(script for script, codes in _LANGUAGES.items() if code in codes.split())


def named_script(language: str) -> str:
    """Return the ISO 15924 script in a language code, such as `Cyrl` of `sr-Cyrl` and `Hant` of `zh-TW`, or ""."""
    first, *subtags = standard(language).split("-")
    named = next((subtag.title() for subtag in subtags if len(subtag) == 4 and subtag.isalpha()), "")
    if not named and first in ("zh", "yue"):
        return next((_CHINESE[subtag] for subtag in subtags if subtag in _CHINESE), "")
    return named


def _is_other_chinese(script: str) -> Callable[[str], bool]:
    """Return a predicate for lines in the other form of Chinese characters than the given one (`Hans` or `Hant`)."""
    own, other = (_SIMPLIFIED, _TRADITIONAL) if script == "Hans" else (_TRADITIONAL, _SIMPLIFIED)

    def rejects(text: str) -> bool:
        characters = set(text)
        strange = sum(text.count(character) for character in characters & other)
        return strange > 0 and strange > sum(text.count(character) for character in characters & own)

    return rejects


def _is_script(name: str) -> bool:
    try:
        regex.compile(rf"\p{{Script={name}}}")
    except regex.error:
        return False
    return True


@dataclass
class ScriptsConfig(FilterConfig):
    """Settings of `Scripts`."""

    order: float = 50
    most: float = 0.5  # share of a side's letters that may be of other scripts
    latin: bool = True  # allow Latin letters everywhere (names, units, code), unless the language code names a script


class Scripts(PairFilter[ScriptsConfig]):
    """Reject pairs with a side whose letters are mostly of other scripts than those of its language."""

    kind = "scripts"
    config = ScriptsConfig
    one_sided = True

    def __init__(self, config: ScriptsConfig, languages: tuple[str, str]) -> None:
        super().__init__(config, languages)
        self._sides = [
            _Expected(code, scripts, config) if (scripts := scripts_of(code)) else None for code in languages
        ]
        unknown = [code for code, side in zip(languages, self._sides, strict=True) if side is None]
        self.idle = f"the scripts of {' and '.join(unknown)} are not known" if unknown else ""

    @classmethod
    def validate(cls, config: ScriptsConfig) -> None:
        """Raise ValueError unless the share is between 0 and 1."""
        if not 0 <= config.most <= 1:
            raise ValueError("most must be a share, 0 to 1")

    def rejects(self, source: str, target: str) -> bool:
        """Return whether a side has too many letters of other scripts."""
        left, right = self._sides
        return (left is not None and left.too_strange(source)) or (right is not None and right.too_strange(target))

    def rejects_source(self, text: str) -> bool:
        """Return whether a source has too many letters of other scripts."""
        left, _ = self._sides
        return left is not None and left.too_strange(text)


class _Expected:
    """The expected letters of one side. The class of each character is computed once and cached."""

    def __init__(self, language: str, scripts: tuple[str, ...], config: ScriptsConfig) -> None:
        named = named_script(language)
        latin = config.latin and not (named and "Latin" not in scripts)
        names = (*scripts, "Common", "Inherited", *(("Latin",) if latin else ()))
        at_home = "".join(rf"\p{{Script={name}}}" for name in names)
        self._strange_letter = regex.compile(rf"[\p{{L}}--[{at_home}]]", regex.VERSION1)
        self._most = config.most
        self._known: set[str] = set()
        self._strange: set[str] = set()
        self._ascii = latin or "Latin" in scripts
        self._is_other_chinese = _is_other_chinese(named) if named in ("Hans", "Hant") else None

    def too_strange(self, text: str) -> bool:
        if self._ascii and _is_latin_1(text):  # whose letters are all Latin
            return False
        if self._is_other_chinese is not None and self._is_other_chinese(text):
            return True
        characters = set(text)
        for character in characters - self._known:
            self._known.add(character)
            if self._strange_letter.match(character):
                self._strange.add(character)
        if not self._strange or characters.isdisjoint(self._strange):
            return False
        letters = sum(map(str.isalpha, text))
        return sum(text.count(character) for character in characters & self._strange) > self._most * letters


def _is_latin_1(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode("latin-1"))
    except UnicodeEncodeError:
        return False


@dataclass
class MarkupConfig(FilterConfig):
    """Settings of `Markup`."""

    order: float = 90
    mirrored: bool = True  # markup that both sides have passes: `<b>` in the strings of a program


_TAG = regex.compile(r"</?[A-Za-z][A-Za-z0-9:_-]*(?:\s[^<>]*)?/?>|<!--|-->|<!\[CDATA\[|\]\]>|<\?[a-z]+")
_ENTITY = regex.compile(r"&(?:[A-Za-z][A-Za-z0-9]{1,30}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});")
_OTHER = regex.compile(
    r"(?:^|\s)@[-/,.]@(?=\s|$)|\uFFFD|\{\\[a-z]+\d*|\[/?(?:b|i|u|url|img|quote)\]|\[\[(?=\w)|\{\{(?=\w)"
)


class Markup(PairFilter[MarkupConfig]):
    """Reject pairs with markup: tags, entities, Moses' `@-@`, codes of wikis and boards, U+FFFD of a bad conversion.

    With `mirrored`, only markup that one side has and the other lacks counts; text without translations then passes.
    """

    kind = "markup"
    config = MarkupConfig
    one_sided = True

    def rejects(self, source: str, target: str) -> bool:
        """Return whether there is markup; with `mirrored`, whether only one side has markup."""
        if _is_plain(source) and _is_plain(target):
            return False
        left, right = _leftovers(source), _leftovers(target)
        return left != right if self.settings.mirrored else bool(left or right)


def _is_plain(text: str) -> bool:
    """Return whether a text surely has no markup, which holds for most lines."""
    return not (
        "<" in text or ">" in text or "&" in text or "@" in text or "\ufffd" in text
        or "[" in text or "{" in text
    )  # fmt: skip


def _leftovers(text: str) -> Counter[str]:
    found: Counter[str] = Counter()
    if "<" in text or ">" in text:
        found.update(regex.split(r"[\s/>]", tag.lstrip("</"))[0].lower() + "<" for tag in _TAG.findall(text))
    if "&" in text:
        # Formulae of spreadsheets have `&E2;`: only entities that exist count.
        found.update(name for name in _ENTITY.findall(text) if name[1] == "#" or name[1:] in html5)
    found.update(leftover.strip() for leftover in _OTHER.findall(text))
    return found
