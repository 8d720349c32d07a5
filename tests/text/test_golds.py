"""Published golds: readings, notes and alternatives are told from the answer."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latent_gemma.text.golds import accepted_forms, noted_answers


@pytest.mark.parametrize(
    ("gold", "forms"),
    [
        ("富士山", []),
        ("『雪国』", ["雪国"]),
        ("金閣 (寺院)", ["金閣"]),
        ("スター (映画)", ["スター"]),
        ("HOME (アニメ)", ["HOME"]),
        ("川端康成（かわばた・やすなり）", ["川端康成", "かわばた・やすなり"]),
        ("お守り［おまもり］", ["お守り", "おまもり"]),
        ("『坊っちゃん（ぼっちゃん）』", ["坊っちゃん", "ぼっちゃん"]),
        ("日本橋(にほんばし、にっぽんばし)", ["日本橋", "にほんばし", "にっぽんばし"]),
        ("テニス[tennis]", ["テニス", "tennis"]),
        ("ABC（エービーシー）", ["ABC", "エービーシー"]),
        ("アサガオ［朝顔］", ["アサガオ", "朝顔"]),
        ("ホトトギス（不如帰）", ["ホトトギス", "不如帰"]),
        ("渋沢川（渋澤川）", ["渋沢川", "渋澤川"]),
        ("コップ（グラス）", ["コップ", "コップグラス"]),
        ("ピタゴラス（の定理）", ["ピタゴラス", "ピタゴラスの定理"]),
        ("シュレーディンガー（効果）", ["シュレーディンガー", "シュレーディンガー効果"]),
        ("（アイザック・）ニュートン［Isaac Newton］", ["ニュートン", "アイザック・ニュートン", "Isaac Newton"]),
        ("㈱日の丸(Hinomaru)", ["日の丸", "株日の丸", "㈱日の丸", "Hinomaru"]),
        ("☆（星）", ["☆", "星"]),
        ("CPU(Central Processing Unit)", ["CPU", "Central Processing Unit"]),
        ("９（キロメートル）", ["９", "９キロメートル"]),
        ("能登（のと）半島", ["能登半島", "のと半島"]),
        ("高橋（髙橋）是清", ["高橋是清", "高橋髙橋是清", "髙橋是清"]),
        ("白熊／北極熊", ["白熊", "北極熊"]),
        ("白熊;;北極熊", ["白熊", "北極熊"]),
        ("長野（信州も正解）", ["長野", "信州"]),
        ("長野（信州、信濃でも可。）", ["長野", "信州", "信濃"]),
        ("長野（別解：信州）", ["長野", "信州"]),
        ("長野（正式には長野県）", ["長野", "長野県"]),
        ("長野【「信州」「信濃（しなの）」も○。「松本」は×】", ["長野", "信州", "信濃", "しなの"]),
        ("長野（信州は可。松本は不可）", ["長野", "信州"]),
        ("長野（「長野」だけでも○。「松本」「諏訪」はもう１回）", ["長野"]),
        ("長野［Nagano］【「松本」は×】※「信州」でもＯＫ", ["長野", "Nagano", "信州"]),
        ("長野【今年から、市の名が変わったので】", ["長野"]),
        ("大友（おおとも）", ["大友", "おおとも"]),
        ("清い［きよい］", ["清い", "きよい"]),
        ("不可欠（ふかけつ）", ["不可欠", "ふかけつ"]),
        ("本［BOOK］", ["本", "BOOK"]),
        ("『LOVE』", ["LOVE"]),
        ("新潟県、長野県、山梨県", []),
        ("そうだ、旅へ行こう。", []),
    ],
)
def test_what_a_published_gold_accepts(gold, forms):
    assert accepted_forms(gold) == (*dict.fromkeys([*forms, gold]),)


@pytest.mark.parametrize(
    "gold", ["(3, 100)", "f(x)", "[0,7)", "Paris (France)", "x（", r"\text{東京 (都)}", "", "山（川", "）山（"]
)
def test_other_golds_accept_themselves_alone(gold):
    assert accepted_forms(gold) == (gold,)


@pytest.mark.parametrize(
    ("note", "answers"),
    [
        ("「信州」も○", ["信州"]),
        ("信州、信濃", ["信州", "信濃"]),
        ("※Shinshu", ["Shinshu"]),
        ("（しんしゅう）", ["しんしゅう"]),
        ("ふるさと", ["ふるさと"]),
        ("いも、おいもなど", ["いも", "おいも"]),
        ("松本は×", []),
        ("「信州」は○、「松本」は×", ["信州"]),
        ("題意より「松本」は不可", []),
        ("「、」は無くてもおまけで正解", []),
        ("似た表現は可。", []),
        ("", []),
    ],
)
def test_what_a_note_names_as_right(note, answers):
    assert list(noted_answers(note)) == answers


@given(st.text("東京とうキョウab1（）()[]【】「」『』※／、。 ×○可", max_size=30))
def test_any_gold_accepts_itself_and_has_a_plain_form(gold):
    forms = accepted_forms(gold)
    assert forms[0] == gold.strip() or forms[0] in gold.replace("㈱", "") or set("「」『』（([【") & set(gold)
    assert gold.strip() in forms
    assert all(forms) or forms == ("",)


@pytest.mark.parametrize("piece", ["（", "東（", "（）", "「", "○", "【「東」も○】", "／", "な"])
def test_time_is_short_for_hostile_golds(piece):
    started = time.perf_counter()
    accepted_forms("東" + piece * 100_000)
    accepted_forms(("東" + piece * 300)[:300])
    noted_answers(piece * 100_000)
    assert time.perf_counter() - started < 1
