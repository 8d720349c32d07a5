"""Which answers a published gold accepts: quiz files write readings, other names and notes into it.

Of 23,335 answers of Japanese quizzes 5,000 do, in these ways:

- 平清盛（たいらの・きよもり）, a reading; ラケット[racket], the word in another script
- 王将 (将棋の駒), what tells it from its namesakes and is no answer
- （モーリス・）ルブラン, ドップラー（効果）, a part that may be left out
- 骨川（滑川も正解）, a note of what else is right; スモック[smock]【「スモッグ」は×】, of what is not
"""

import re
import unicodedata
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import NamedTuple

#: A longer gold is a sentence, and accepts itself.
MAX_GOLD_CHARS = 300

_CLOSING = {"(": ")）", "（": ")）", "[": "]］", "［": "]］", "【": "】", "〔": "〕"}
_CLOSERS = frozenset("".join(_CLOSING.values()))
_QUOTES = re.compile("[「」『』《》〈〉]")
_QUOTED = re.compile("「([^「」]+)」|『([^『』]+)』")
_JAPANESE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff々〆]")
#: Only golds with one of these are taken apart: in "(3, 100)" or "f(x)" brackets mean something.
_ANNOTATED = re.compile(rf"{_JAPANESE.pattern}|[「」『』（）［］【】※]|^[A-Z]{{2,}} ?[(\[][A-Z][a-z]+")
_KANJI = re.compile(r"[\u3400-\u9fff々〆]")
_KANA = re.compile(r"[\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff]")
_KATAKANA = re.compile(r"[\u30a1-\u30fa]")
_KANJI_AT_END = re.compile(f"(?:{_KANJI.pattern})+$")
_KANA_AT_END = re.compile(f"(?:{_KANA.pattern})+$")
_BETWEEN_NAMES = re.compile("／|;;")
_BETWEEN_PARTS = re.compile(r"[、，；;／/。\n]| or |または|又は")
# What judges stands behind a particle or at the end: 不可欠, 可能, おおとも and BOOK judge nothing.
_WRONG = r"[×✕✗]|(?<=[はもで])不可|不可(?=$|[。、)])|不正解|誤答|(?<=は)バツ|もう[1一]?[回度]"
_RIGHT = (
    r"[○◯]|(?<=[もはで」』])[可〇](?!能)|正[解答](?![はも:])|(?<![A-Z])OK(?![A-Z])|(?<=[もは])(?:許容|認め)|(?<=も)[よ良]い|"
    r"(?<=[、」』\u3400-\u9fff])とも(?=$|[。、])"
)
_VERDICT = re.compile(f"(?P<wrong>{_WRONG})|(?P<right>{_RIGHT})")
#: Words around an alternative that are no part of it: "別解：..", "※..", "正式には..", "..でも", "..のみで".
_INTRODUCED = re.compile(
    r"^[※→\s]*(?:別解|許容|正解|または|又は|あるいは|"
    r"(?:正式|英語|漢字|本名|現?姓|幼名|俗称|別名|通称|略称|旧称)(?:名称?)?(?:に|で)?は?)\s*[:：・、]?\s*"
)
_BEFORE = re.compile(rf"{_INTRODUCED.pattern}|^[※→\s]+")
_BEHIND = re.compile(r"\s*(?:なども?|でも?|だけ|のみ|まあ|まぁ|も|は|が出れば|を?おまけ|オマケ|の|と)+$")
_AND_SO_ON = re.compile(r"\s*なども?$")
_SENTENCE = re.compile("[\u3400-\u9fff]した|ため|ので|ない|です|ます|[\u3400-\u9fff」』][はがを]")
_GENERIC = re.compile("表現|表記|[解回]答|違い")
#: What stands behind many titles to tell them from their namesakes, and is no name of its own.
_GENERAL = re.compile(
    "映画|小説|漫画|アニメ|ドラマ|ゲーム|曲|音楽|バンド|歌手|タレント|モデル|企業|会社|雑誌|書物|本|人物|俳優|作家|職業|"
    "動物|植物|鳥類?|魚類?|貝|犬|猫|虫|食品|料理|菓子|飲料|果物|野菜|単位|通貨|楽器|道具|器|服飾|電車|スポーツ|野球|競馬|"
    "相撲|将棋|囲碁|麻雀|落語|絵画|彫刻|地名|惑星|衛星|数学|物理|化学|生物|医学|神話|聖書|宗教|法律|政治|経済|日本|"
    # the ends of names that may be left out
    "効果|現象|法則|制度|写真|王国|大?公国|共和国|連邦|帝国|兄弟|面|画|号|姫|板|型|式|走|祭|湯|生"
)


class _Piece(NamedTuple):
    """A stretch of a gold: outside of brackets, or what stands between a pair of them."""

    text: str
    bracket: str = ""


def accepted_forms(gold: str) -> tuple[str, ...]:
    """The answers that a published gold accepts.

    Args:
        gold: the answer as its file writes it, readings, notes and alternatives included.

    Returns:
        The plain answer first (what a model is to learn), then the other forms, and the gold as published last; a gold
        without annotations alone.
    """
    whole = gold.strip()
    if not _ANNOTATED.search(whole) or len(whole) > MAX_GOLD_CHARS or "\\" in whole:
        return (whole,)
    text, _, remark = whole.partition("※")
    if not text.strip():
        return (whole,)
    forms = [form for name in _BETWEEN_NAMES.split(_hide_slashes(text)) for form in _forms_of(name.replace("\0", "／"))]
    forms += noted_answers(remark)
    # What is right is written once: "王将" and "『王将』" are the same answer to a grader.
    named = [form for form in forms[1:] if any(map(str.isalnum, form))]
    return tuple(dict.fromkeys([*filter(None, forms[:1]), *named, whole]))


def noted_answers(note: str) -> tuple[str, ...]:
    """The answers that a note to a gold names as right as well.

    Args:
        note: such as "「ステッチ」も○", "滑川も正解", "別解：アンヘル滝", "「A」「B」でも可。「C」はもう１回".

    Returns:
        Those in front of ○, 可, 正解 or OK, and those that the note does not judge; none in front of × or 不可, nor
        from a whole sentence.
    """
    found: list[str] = []
    start = 0
    # NFKC keeps the length of what is read here but for rare characters, so the note is judged and read folded.
    note = unicodedata.normalize("NFKC", note[:MAX_GOLD_CHARS])
    ends = [*_VERDICT.finditer(note), None]
    for verdict in ends:
        clause = note[start : verdict.start() if verdict else len(note)]
        start = verdict.end() if verdict else start
        if verdict is not None and verdict["wrong"]:
            # "「A」は○、だが「B」は×" was cut in front of B; in "「A」、「B」は×" both are wrong.
            continue
        names = [first or second for first, second in _QUOTED.findall(clause)]
        if not names:
            tells = _GENERIC.search(clause) or (verdict is None and _SENTENCE.search(clause))
            parts = [] if tells else re.split(r"[、,;/。\n]", clause)
            # A verdict has particles in front of it; without one "ふるさと" and "がんも" end as they do.
            behind = _BEHIND if verdict else _AND_SO_ON
            names = [behind.sub("", _BEFORE.sub("", _unwrapped(part))) for part in parts]
        for name in names:
            found += _forms_of(name) if _JAPANESE.search(name) else [name.strip()]
    return tuple(dict.fromkeys(form for form in found if any(map(str.isalnum, form))))


def _unwrapped(part: str) -> str:
    part = part.strip()
    return part[1:-1] if part[:1] in _CLOSING and part[-1:] in _CLOSERS else part


def _hide_slashes(text: str) -> str:
    """Text in which a "／" inside of brackets does not separate names."""
    depth, shown = 0, []
    for character in text:
        depth += (character in _CLOSING) - (character in _CLOSERS)
        shown.append("\0" if character == "／" and depth > 0 else character)
    return "".join(shown)


def _pieces(text: str) -> list[_Piece] | None:
    """Text cut at its outermost brackets; None if they do not match."""
    pieces, start, depth, opened = list[_Piece](), 0, 0, ""
    for index, character in enumerate(text):
        if character in _CLOSING:
            if depth == 0:
                pieces.append(_Piece(text[start:index]))
                start, opened = index + 1, character
            depth += 1
        elif character in _CLOSERS:
            depth -= 1
            if depth < 0 or (depth == 0 and character not in _CLOSING[opened]):
                return None
            if depth == 0:
                pieces.append(_Piece(text[start:index], opened))
                start = index + 1
    pieces.append(_Piece(text[start:]))
    return pieces if depth == 0 else None


def _forms_of(name: str) -> list[str]:
    """The plain form of one name, then its others."""
    pieces = _pieces(name.replace("㈱", "（株）")) or [_Piece(name)]
    texts = [_QUOTES.sub("", "" if piece.bracket else piece.text) for piece in pieces]
    plain = "".join(texts).strip()
    if not plain:
        return [_QUOTES.sub("", name).strip()]
    longer, others = "", list[str]()
    for index, (text, bracket) in enumerate(pieces):
        before, after = "".join(texts[:index]), "".join(texts[index + 1 :])
        if not bracket:
            longer += texts[index]
        elif any(sign.search(unicodedata.normalize("NFKC", text)) for sign in (_VERDICT, _QUOTED, _INTRODUCED)):
            others += noted_answers(text)
        elif after.strip():
            spelled = [form for part in _parts(text) for form in _spelled_otherwise(before, part, after)]
            # A reading stands in the place of what it reads; other text may be left out.
            longer += "" if spelled and not _KANJI.search(text) else text
            others += spelled
        elif not _SENTENCE.search(text):
            parts, spaced = _parts(text), before[-1:].isspace()
            names = [form for part in parts for form in _names(plain, part, bracket, spaced)]
            # What is no name of its own may be left out: "ドップラー（効果）"; behind a space it tells namesakes apart.
            if not names and len(parts) == 1 and not spaced:
                others.append(f"{longer.strip()}{text}")
            others += names
    company = ["".join(piece.text for piece in _pieces(name) or [] if not piece.bracket)] if "㈱" in name else []
    return [plain, longer.strip(), *company, *others]


def _parts(text: str) -> list[str]:
    return [part.strip() for part in _BETWEEN_PARTS.split(text) if part.strip()]


def _spelled_otherwise(before: str, part: str, after: str) -> Iterator[str]:
    """A name with the end of `before` as a part in brackets writes it: 渥美（あつみ）半島, 大友（大伴）黒主."""
    if not _KANJI.search(part):
        stem = _KANJI_AT_END.sub("", before) if _KANA.search(part) else before
    elif not _KANA.search(part):
        end = before[-len(part) :]
        stem = before[: -len(part)] if set(end) & set(part) else _KANA_AT_END.sub("", before)
    else:
        return
    if stem != before:
        yield f"{stem}{part}{after}".strip()


def _names(plain: str, part: str, bracket: str, spaced: bool) -> list[str]:
    """What a part in brackets behind a name is as an answer of its own; nothing if it only explains."""
    inner = _pieces(part) or [_Piece(part)]
    bare = "".join(piece.text for piece in inner if not piece.bracket).strip()
    if not bare or (spaced and bracket in "(（" and (_KANJI.search(bare) or _KATAKANA.search(bare))):
        return []
    return [bare] if _is_another_name(plain, bare, free=bracket not in "(（") else []


def _is_another_name(plain: str, part: str, free: bool) -> bool:
    """Whether a part in brackets names the same thing as the text before it.

    Args:
        plain: the text before.
        part: the part.
        free: in brackets that quizzes keep for other names, so that it need not look like one.
    """
    digits = set(re.findall(r"\d", part)) - set(re.findall(r"\d", plain))
    if digits or _SENTENCE.search(part) or part in plain or _GENERAL.fullmatch(part) or len(part) > 3 * len(plain) + 20:
        return False
    kanji = _KANJI.findall(part)
    if kanji:
        written_out = not _KANJI.search(plain) and len(kanji) == len(part) <= len(plain)
        return free or written_out or bool(set(kanji) & set(plain)) or (plain in part and part[0] not in "のをが")
    if not _KANA.search(part):
        return sum(map(str.isalpha, part)) > 1
    return (free and bool(_KATAKANA.search(part))) or _is_reading(plain, part)


def _is_reading(plain: str, part: str) -> bool:
    """Whether kana read a name (its own kana occur in them, and each kanji takes one or more), or vary it."""
    own, read = ("".join(_KANA.findall(_hiragana(text))) for text in (plain, part))
    if _KANJI.search(plain):
        rest = iter(read)
        return len(read) >= len(own) + len(_KANJI.findall(plain)) and all(kana in rest for kana in own)
    if not own:
        return any(map(str.isalpha, plain))
    return own in read or SequenceMatcher(None, own, read, autojunk=False).ratio() > 0.5


def _hiragana(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text)
    return "".join(chr(ord(character) - 0x60) if "ァ" <= character <= "ヶ" else character for character in folded)
