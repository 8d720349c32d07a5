"""Japanese or English, by the script a text is written in."""

import re
from typing import Literal

Language = Literal["en", "ja"]
_KANA = r"\u3040-\u30ff\uff66-\uff9f"
_KANJI = r"\u3005\u3006\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_JAPANESE = re.compile(f"[{_KANA}{_KANJI}]")


def detect_language(text: str) -> Language:
    """Tell Japanese from English.

    Args:
        text: any text.

    Returns:
        "ja" if it holds kana or kanji, else "en". Detectors that know every language call 東京 Chinese and
        "Solve 24 + 15" Portuguese; between these two the script decides.
    """
    return "ja" if _JAPANESE.search(text) else "en"
