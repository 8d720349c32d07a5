"""What is right and what is wrong, by kind: numbers in marks and in prose, parts of expressions, Japanese, golds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_gemma.text.answers import answers_match, candidate, grade
from latent_gemma.text.election import vote
from latent_gemma.text.expressions import settle

RIGHT_NUMBERS = [
    ("#### 42 apples in total", "42"), ("<answer>$1,250</answer>", "1250"), ("<answer>42.</answer>", "42"),
    ("<answer>\n42 dollars\n</answer>", "42"), (r"\boxed{42 \text{ apples}}", "42"),
    (r"\boxed{\text{42 apples}}", "42"), (r"\boxed{\textbf{42}}", "42"), (r"\boxed{1{,}234{,}567}", "1234567"),
    (r"\boxed{1,234\text{ m}^2}", "1234"), ("#### **42**", "42"), ("#### `42`", "42"), ("#### __42__", "42"),
    ("<answer>約35%</answer>", "35"), ("<answer>about $35</answer>", "35"),
    ("<answer>It is 14 cups of flour</answer>", "14"), ("<answer>全部で27個です</answer>", "27"),
    ("<answer>27km</answer>", "27"), ("<answer>27キロメートル</answer>", "27"),
    ("<answer>¥3,600</answer>", "3600"), ("<answer>3,600円</answer>", "3600"), ("<answer>€42</answer>", "42"),
    ("<answer>-$5</answer>", "-5"), ("#### -5 degrees", "-5"), ("#### 0.5 hours", "0.5"), ("#### 1/2 cup", "0.5"),
    ("<answer>3 1/2 miles</answer>", "3.5"), (r"\boxed{x = 5}", "5"), (r"\boxed{\$18}", "18"),
    ("#### $18.00", "18"), ("#### 18.0", "18"), ("#### 42 (forty-two)", "42"),
    ("<answer>5 minutes per day</answer>", "5"), ("<answer>60 mph</answer>", "60"),
    ("<answer>12:00</answer>", "12"), ("<answer>6 × 7 = 42</answer>", "42"),
    ("<answer>6*7=42 apples</answer>", "42"), ("<answer>42%</answer>", "42"),
    ("<answer>42 percent</answer>", "42"), ("<answer>42人</answer>", "42"), ("<answer>答え：42</answer>", "42"),
    ("<answer>答えは 42 個 です。</answer>", "42"), ("<answer>Answer: 42</answer>", "42"),
    ("<answer>The final answer is 42 marbles.</answer>", "42"), (r"<answer>\(42\)</answer>", "42"),
    ("<answer>$42$</answer>", "42"), ("<answer>$$42$$</answer>", "42"), (r"<answer>\boxed{42}</answer>", "42"),
    (r"#### \boxed{42}", "42"), ("#### 42\n\nI hope this helps!", "42"), ("**Answer:** 42", "42"),
    (r"**Final Answer:** \(\boxed{42}\)", "42"), ("<answer>1,000,000</answer>", "1000000"),
    ("<answer>2.50</answer>", "2.5"), ("<answer>.5</answer>", "0.5"), ("<answer>+7</answer>", "7"),
    ("<answer>27 (27 miles)</answer>", "27"), ("<answer>~35</answer>", "35"), ("<answer>≈35</answer>", "35"),
    ("#### 10 m/s", "10"), ("#### 48 square feet", "48"), ("#### 48 ft²", "48"), ("<answer>48 cm²</answer>", "48"),
    ("#### 5 - that is all", "5"), ("<answer>27 − 3 = 24</answer>", "24"), ("<answer>42<br></answer>", "42"),
    ("<answer>42 個（りんご）</answer>", "42"), ("<answer>15 %</answer>", "15"),
    ("<answer>Tom has 12 apples left</answer>", "12"), (r"The answer is $\frac{3}{4}$.", "0.75"),
    ("答えは12万3千円です。", "123000"), ("答えは3億円です。", "300000000"), ("答えは3分の2です。", "2/3"),
    ("The area is 48 m^2.", "48"), ("The area is 48 m².", "48"), ("The volume is 27 cm³", "27"),
    ("The answer is 2.5 x 10^4.", "25000"), ("The answer is 2.5×10⁴.", "25000"),
    (r"The answer is $2.5 \times 10^{4}$.", "25000"), ("The answer is 1.2e-3", "0.0012"),
    ("The answer is 18, not 17.", "18"), ("The answer is not 17 but 18.", "18"),
    ("The answer is 17. Wait, the answer is 18.", "18"), ("答えは17ではなく18です。", "18"),
    ("答えは17です。いや、答えは18です。", "18"), ("x = 5", "5"), ("So x = 5.", "5"),
    ("Therefore, 2x = 10 and x = 5.", "5"), ("The answer is 3 1/4.", "3.25"), ("The answer is 3¼", "3.25"),
    ("The answer is -5.", "-5"), ("The answer is −5.", "-5"), ("The answer is $-5.", "-5"),
    ("He has $3,600.", "3600"), ("合計は3,600円です。", "3600"), ("合計は￥3,600です。", "3600"),
    ("It is 50%.", "50"), ("It is 50%.", "0.5"), ("So total = 3 + 4 = 7", "7"), ("about 2 × 10^3 people", "2000"),
    ("2^10", "1024"), ("10²", "100"), ("The answer is 5 million.", "5000000"), ("It's 3.5 thousand", "3500"),
    ("She has 18 (she started with 20).", "18"), ("18 (=9×2)", "18"), ("18 (approximately)", "18"),
    ("The answer is (18).", "18"), ("He needs 4 more, so 12", "12"), ("答えは三百六十五日です。", "365"),
    ("二〇二四", "2024"), ("二千二十四", "2024"), ("一万二千三百四十五", "12345"), ("1万2千3百", "12300"),
    ("3.5万", "35000"), ("３．５万円", "35000"), ("十", "10"), ("十二", "12"), ("二十", "20"), ("百", "100"),
    ("千五百", "1500"), ("一億二千万", "120000000"), ("2億5000万円", "250000000"), ("1兆", "1000000000000"),
    ("三分の二", "2/3"), ("１／２", "0.5"), ("1と2分の1", "1.5"), ("一・五", "1.5"), ("マイナス五", "-5"),
    ("マイナス3.5度", "-3.5"), ("－５", "-5"), ("５０％", "50"), ("50パーセント", "50"), ("3割", "0.3"),
    ("3割5分", "0.35"), ("三つ", "3"), ("二人", "2"), ("答えは、二十四個だ。", "24"),
    ("<answer>二十四</answer>", "24"), ("<answer>七</answer>", "7"), ("<answer>答えは七です</answer>", "7"),
    ("#### 七個", "7"), ("約三百", "300"), ("合計二十四円", "24"), ("０", "0"), ("〇", "0"), ("１２３", "123"),
    ("1,234人", "1234"), ("1，234", "1234"), ("¥1,234", "1234"), ("答えは100です。", "100"),
    ("答えは 100 メートルです。", "100"), ("よって、答えは5個。", "5"), ("したがって12人となります。", "12"),
    ("【答え】12個", "12"), ("答え：１２個", "12"), ("答. 12", "12"), ("(答) 12個", "12"), ("正解は12です", "12"),
    ("12が答えです", "12"), ("2千", "2000"), ("百二十三万四千五百六十七", "1234567"), ("5.333", "5.3333333333"),
    ("5.3343", "5.3333333333"), ("1806106.8", "1806106.8000000003"), ("#### 5.3333 dollars", "5.333333333333"),
    ("-5.3333", "-5.3333333333"), ("0.33333", "0.3333333333333333"), ("13032458.3333", "13032458.333333334"),
    (r"So the total is \boxed{3,600} yen.", "3600"), (r"\boxed{3.5\text{ hours}}", "3.5"),
    (r"\boxed{\approx 35}", "35"), (r"\boxed{35\%}", "35"), (r"\boxed{27~\text{km}}", "27"),
    (r"\boxed{27\,\text{km/h}}", "27"), (r"\boxed{27\ \mathrm{km}}", "27"), (r"\boxed{\text{Total: }27}", "27"),
    (r"\boxed{¥3{,}600}", "3600"), (r"\boxed{-7}", "-7"), (r"\boxed{−7}", "-7"), (r"\boxed{ 27 }", "27"),
    (r"\boxed{27}.", "27"), (r"$\boxed{27}$ miles", "27"), (r"\fbox{27 miles}", "27"), ("####27", "27"),
    ("#### Answer: 27", "27"), ("#### = 27", "27"), ("#### x = 27", "27"), ("#### $27 per day", "27"),
    ("#### 27/day", "27"), ("#### 27 @ $5", "27"), ("#### 27.", "27"), ("#### 27!", "27"), ("#### 27?", "27"),
    ("#### (27)", "27"), ("#### [27]", "27"), ("#### {27}", "27"), ("#### 27;", "27"), ("#### 27,", "27"),
    ("#### '27'", "27"), ("#### \"27\"", "27"), ("#### 27 kg", "27"), ("#### 27kg", "27"), ("#### 27 K", "27"),
    ("#### No. 27", "27"), ("#### #27", "27"), ("#### USD 27", "27"), ("#### US$27", "27"), ("#### Rs. 27", "27"),
    ("#### £27.50", "27.5"), ("#### 27 cents", "27"), ("#### 27¢", "27"), ("#### 27円です。", "27"),
    ("#### 27円 (税込)", "27"), ("#### 第27位", "27"), ("#### 27歳", "27"), ("#### 27点", "27"),
    ("#### 27日間", "27"), ("#### 午後3時", "3"), ("#### 27 and a half", "27"), ("#### 1 1/2 cups", "1.5"),
    ("#### 1/2 of 10", "0.5"), ("#### 3.14", "3.14"), ("#### 3.0 apples", "3"), ("#### 0.75 (3/4)", "0.75"),
    ("#### 007", "7"), ("The answer is 27 miles.", "27"), ("The answer is $27.", "27"),
    ("The answer is: 27", "27"), ("The answer is **27**.", "27"), ("The final answer is 27.", "27"),
    ("Final answer: 27 apples", "27"), ("ANSWER: 27", "27"), ("Answer = 27", "27"), ("answer:27", "27"),
    ("The answer would be 27.", "27"), ("The answer to the question is 27.", "27"),
    (r"Therefore, the answer is \(27\).", "27"), (r"The answer is \boxed{27}.", "27"),
    ("Thus she has 27 apples.", "27"), ("Thus she has 27 apples left.\n", "27"), ("It is 5 + 22 = 27.", "27"),
    ("5+22=27", "27"), ("(5+22)=27", "27"), ("(5+22) * 1 = 27 dollars", "27"), ("5*5+2 = 25+2 = 27", "27"),
    ("= 27", "27"), ("-> 27", "27"), ("=> 27", "27"), ("5 + 22 → 27", "27"), ("total: 27", "27"), ("x=27", "27"),
    ("$x=27$", "27"), ("The answer is 27 or so.", "27"), ("She earns $27/hour.", "27"),
    ("She pays $5 - $3 = $2.", "2"), ("He is 27 years old.", "27"), ("27", "27"), (" 27 ", "27"), ("27:00", "27"),
    ("|27|", "27"), ("27!", "27"), ("log 27", "27"), ("{27}", "27"), ("27%", "27"), ("27 of them", "27"),
    ("27 thousand", "27000"), ("27千", "27000"), ("二十七", "27"), ("二七", "27"), ("27番目", "27"),
    ("27日", "27"), ("It's 27 (or 28 if counted twice).", "27"), ("There are 27 (3 × 9) of them.", "27"),
    ("27 [see above]", "27"), ("27 (3)", "27"), ("She had 27 left (after giving away 3).", "27"),
]  # fmt: skip

WRONG_NUMBERS = [
    ("#### 3 boxes of 12", "12"), ("#### 12 of the 40", "40"), ("<answer>41 apples</answer>", "42"),
    ("<answer>4200</answer>", "42"), ("<answer>42.5</answer>", "42"), ("<answer>-42</answer>", "42"),
    ("#### 142 apples", "42"), ("<answer>42 or 43</answer>", "43"), ("<answer>42 or 43</answer>", "42"),
    ("<answer>1, 2, 3</answer>", "3"), ("<answer>10:45</answer>", "10"), ("<answer>2x</answer>", "2"),
    ("<answer>x+2</answer>", "2"), ("<answer>12万</answer>", "12"), ("<answer>5 million</answer>", "5"),
    (r"\boxed{\frac{3}{4}}", "3"), (r"\boxed{\frac{3}{4}}", "4"), (r"\boxed{(3,4)}", "3"), (r"\boxed{5^2}", "5"),
    (r"\boxed{2\sqrt{3}}", "2"), (r"\boxed{3\pi}", "3"), ("<answer>3-5</answer>", "3"),
    ("<answer>3~5</answer>", "5"), ("<answer>3〜5個</answer>", "3"), ("<answer>3:2</answer>", "3"),
    ("<answer>2024年5月6日</answer>", "6"), ("<answer>2024/05/06</answer>", "6"), ("<answer>May 6</answer>", "6"),
    ("<answer>1/2</answer>", "2"), ("<answer>1.5</answer>", "5"), ("<answer>3時間20分</answer>", "20"),
    ("<answer>10^3</answer>", "3"), ("<answer>x < 5</answer>", "5"), ("<answer>not 5</answer>", "5"),
    ("<answer>2 x 3</answer>", "3"), ("<answer>10 - 3</answer>", "3"), ("<answer>H2O</answer>", "2"),
    ("<answer>three</answer>", "4"), (r"The answer is $\frac{3}{4}$.", "3"), ("It is 10:45.", "45"),
    ("The answer is (3, 4).", "4"), ("The answer is between 3 and 4.", "4"), ("The answer is 3 to 4.", "4"),
    ("It takes 3-4 hours.", "4"), ("The ratio is 3:4", "4"), ("The ratio is 3 : 4", "4"),
    ("答えは3対4です。", "4"), ("答えは12万3千円です。", "3"), ("答えは3億円です。", "3"),
    ("答えは3分の2です。", "2"), ("The area is 48 m^2.", "2"), ("The volume is 27 cm^{3}", "3"),
    ("The answer is 18, not 17.", "17"), ("The answer is 17. Wait, the answer is 18.", "17"),
    ("The answer is 3 1/4.", "4"), ("The answer is -5.", "5"), ("on March 5", "5"), ("on 2024-05-06", "6"),
    ("2024年5月6日", "5"), ("She was born on May 6, 1990", "6"), ("The date is 5/6/2024", "2024"),
    ("It costs $5.99", "99"), ("version 1.2.3", "3"), ("So total = 3 + 4", "4"), ("3 + 4", "4"),
    ("The interval is [0, 7)", "7"), ("{1, 2, 3}", "3"), ("about 2 × 10^3 people", "10"), ("2^10", "10"),
    ("3 hours and 20 minutes", "20"), ("5 feet 4 inches", "4"), ("COVID-19", "19"),
    ("答えは5個または6個です", "6"), ("5か6", "6"), ("二十四", "4"), ("二十四", "20"), ("三百六十五", "5"),
    ("1万2千", "2000"), ("1万2千", "1"), ("2分の1", "2"), ("2分の1", "1"), ("一億", "1"), ("三重県", "3"),
    ("一番", "1"), ("十分です", "10"), ("5.33", "5.3333333333"), ("5.3345", "5.3333333333"), ("5", "5.3333333333"),
    ("5.001", "5"), ("5.0005", "5"), ("2.5005", "2.5"), ("3.3333", "10/3"), ("5.3333", "-5.3333333333"),
    ("13032458.33", "13032458.333333334"), ("#### 27k", "27"), ("#### 1 1/2 cups", "1"), ("#### 2/3", "0.6667"),
    ("#### 3.14", "3"), ("27 ", "28"), ("2 7", "27"), ("27 28", "27"), ("27, 28", "28"), ("27 and 28", "28"),
    ("either 27 or 28", "28"), ("2-7", "7"), ("2/7", "7"), ("2.7", "7"), ("2:07", "7"), ("2:07", "2"),
    ("7 x 27", "27"), ("7×27", "27"), ("7*27", "27"), ("x27", "27"), ("A27", "27"), ("27x", "27"), ("27y", "27"),
    ("27 + x", "27"), ("x + 27", "27"), ("x/27", "27"), ("27/x", "27"), ("27^2", "27"), ("27²", "27"),
    ("27^x", "27"), ("√27", "27"), (r"\sqrt{27}", "27"), ("±27", "27"), ("x ≥ 27", "27"), ("> 27", "27"),
    ("27 < x", "27"), ("27 ≤ x ≤ 30", "30"), ("(27, 28)", "28"), ("[27, 28]", "27"), ("27 out of 30", "27"),
    ("1,027", "27"), ("27,000", "27"), ("27 thousand", "27"), ("27万", "27"), ("七十二", "27"), ("27分の1", "27"),
    ("1/27", "27"), ("3月27日", "27"), ("27時30分", "30"), ("27メートル50センチ", "50"), ("27個と30個", "30"),
    ("27個か30個", "30"), ("27個ではない", "27"), ("not 27", "27"), ("isn't 27", "27"),
]  # fmt: skip

RIGHT_TEXTS = [
    ("東京だ", "東京"), ("東京である。", "東京"), ("東京でした。", "東京"), ("東京になります。", "東京"),
    ("『東京』", "東京"), ("「東京」です。", "東京"), ("答えは「東京」です。", "東京"), ("答え：東京", "東京"),
    ("答えは東京", "東京"), ("正解は東京です。", "東京"), ("正解：東京", "東京"), ("解答：東京", "東京"),
    ("東京が答えです。", "東京"), ("<answer>東京</answer>", "東京"), ("<answer>東京です。</answer>", "東京"),
    ("<answer>「東京」</answer>", "東京"), ("<answer>答えは東京です。</answer>", "東京"), ("#### 東京", "東京"),
    (r"\boxed{東京}", "東京"), (r"\boxed{\text{東京}}", "東京"), ("<answer>**東京**</answer>", "東京"),
    ("答えは**東京**です。", "東京"), ("東京 (とうきょう)", "東京"), ("東京（とうきょう）です。", "東京"),
    ("東京(Tokyo)", "東京"), ("　東京　", "東京"), ("東京。", "東京"), ("東京！", "東京"),
    ("ジョンレノン", "ジョン・レノン"), ("ジョン レノン", "ジョン・レノン"),
    ("ジャン=ジャック・ルソー", "ジャン＝ジャック・ルソー"), ("Paris", "paris"), ("The answer is Paris.", "Paris"),
    ("**Paris**", "Paris"), ("\"Paris\"", "Paris"), ("“Paris”", "Paris"), ("<answer>Paris.</answer>", "Paris"),
    ("<answer>The answer is Paris</answer>", "Paris"), ("ＡＢＣ", "ABC"), ("はい", "はい"), ("いいえ。", "いいえ"),
    ("答えは、東京だと思います。", "東京"), ("1945年", "1945年"), ("答えは1945年です。", "1945年"),
    ("1945", "1945年"), ("答えは3月3日です。", "3月3日"), ("答えは東京。理由は首都だから。", "東京"),
    ("最終的な答えは東京です。", "東京"), ("<answer>東京です。日本の首都です。</answer>", "東京"),
    ("回答: 東京", "東京"), ("Answer: 東京", "東京"), ("王将", "王将（将棋）"),
    ("源頼朝", "源頼朝（みなもとの・よりとも）"), ("みなもとのよりとも", "源頼朝（みなもとの・よりとも）"),
    ("racket", "ラケット[racket]"), ("Racket", "ラケット［racket］"), ("滑川", "骨川（滑川でも可）"),
    ("滑川", "骨川（別解：滑川）"), ("滑川", "骨川（「滑川」も正解）"), ("骨川", "骨川（滑川は不可）"),
    ("雪国", "『雪国』"), ("『雪国』", "『雪国』"), ("雪国", "「雪国」"), ("ルブラン", "（モーリス・）ルブラン"),
    ("モーリス・ルブラン", "（モーリス・）ルブラン"), ("レオン", "レオン (映画)"), ("レオン", "レオン（映画）"),
    ("白熊", "白熊／北極熊"), ("北極熊", "白熊／北極熊"), ("信州", "長野県（信州、信濃も可）"),
    ("信濃", "長野県（信州、信濃も可）"), ("答えは骨川です。", "骨川（滑川も正解）"),
    ("<answer>滑川です</answer>", "骨川（滑川も正解）"), ("骨川（滑川も正解）", "骨川（滑川も正解）"),
    ("平清盛（たいらのきよもり）", "平清盛（たいらの・きよもり）"), ("9", "９（ミリメートル）"),
    ("東京都", "東京（都）"), ("東京", "東京（都）"), ("ドップラー効果", "ドップラー（効果）"),
    ("鹿苑寺", "金閣寺（鹿苑寺も○）"), ("キャパシタ", "コンデンサ※「キャパシタ」も○"),
    ("Beatles", "ビートルズ（The Beatles）"), ("ザ・ビートルズ", "（ザ・）ビートルズ"),
    ("答えは、「蛍の光」です。", "『蛍の光』"), ("蛍の光", "蛍の光（ほたるのひかり）"),
    ("ほたるのひかり", "蛍の光（ほたるのひかり）"), ("夏目 漱石", "夏目漱石"), ("夏目・漱石", "夏目漱石"),
    ("答：夏目漱石", "夏目漱石"), ("<answer>夏目漱石。</answer>", "夏目漱石"),
    ("<answer>『こころ』（夏目漱石）</answer>", "こころ"), ("<answer>夏目漱石\n</answer>", "夏目漱石"),
    ("<answer>夏目漱石（1867年生まれ）</answer>", "夏目漱石"), ("夏目漱石である", "夏目漱石"),
    ("「夏目漱石」だ。", "夏目漱石"), ("【夏目漱石】", "夏目漱石"), ("`夏目漱石`", "夏目漱石"),
    ("__夏目漱石__", "夏目漱石"), ("《夏目漱石》", "夏目漱石"), ("答えは\n夏目漱石", "夏目漱石"),
    ("答えは：夏目漱石", "夏目漱石"), ("答えは夏目漱石ですよ。", "夏目漱石"),
    ("答えは夏目漱石ですね。", "夏目漱石"), ("答えは夏目漱石でしょう。", "夏目漱石"),
    ("答えは夏目漱石となります。", "夏目漱石"), ("答えは夏目漱石、です。", "夏目漱石"), ("YES", "Yes"),
    ("True", "true"), ("The answer is yes.", "Yes"), ("Ｔｏｋｙｏ", "Tokyo"),
]  # fmt: skip

WRONG_TEXTS = [
    ("それは東京ではない", "東京"), ("東京タワー", "東京"), ("東京都", "東京"), ("京都", "東京"),
    ("東京か大阪", "東京"), ("東京、大阪", "東京"), ("大阪（東京ではない）", "東京"), ("とうきょう", "東京"),
    ("答えは大阪です。東京ではありません。", "東京"), ("Parisian", "Paris"), ("London", "Paris"),
    ("はい、そうです", "いいえ"), ("私は東京だと思います。", "大阪"), ("1946年", "1945年"), ("3月", "5月"),
    ("3日", "3月"), ("3月3日", "3月"), ("坂本龍馬", "坂本竜馬"), ("A: 東京", "大阪"),
    ("将棋の駒", "王将 (将棋の駒)"), ("源義経", "源頼朝（みなもとの・よりとも）"), ("滑川", "骨川（滑川は不可）"),
    ("も正解", "骨川（滑川も正解）"), ("モーリス", "（モーリス・）ルブラン"), ("映画", "レオン (映画)"),
    ("映画", "レオン（映画）"), ("スモッグ", "スモック[smock]【「スモッグ」は×】"), ("夏目漱石さん", "夏目漱石"),
    ("ナツメソウセキ", "夏目漱石"), ("これは夏目漱石です。", "夏目漱石"), ("答えは夏目漱石さんです", "夏目漱石"),
    ("A. 夏目漱石", "夏目漱石"), ("答えは ... 夏目漱石", "森鷗外"), ("よって夏目漱石", "夏目漱石"),
    ("いいえ", "はい"), ("The answer is no.", "Yes"), ("ルネサンス", "ルネッサンス"),
    ("コンピューター", "コンピュータ"), ("㈱ユニクロ", "株式会社ユニクロ"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "gold"), RIGHT_NUMBERS)
def test_a_number_is_right_whatever_stands_beside_it(written, gold):
    assert grade(written, [gold]).lenient


@pytest.mark.parametrize(("written", "gold"), WRONG_NUMBERS)
def test_a_part_of_an_expression_is_never_the_answer(written, gold):
    assert not grade(written, [gold]).lenient


@pytest.mark.parametrize(("written", "gold"), RIGHT_TEXTS)
def test_a_text_is_right_however_it_is_said_and_its_gold_annotated(written, gold):
    assert grade(written, [gold]).lenient


@pytest.mark.parametrize(("written", "gold"), WRONG_TEXTS)
def test_another_text_is_wrong(written, gold):
    assert not grade(written, [gold]).lenient


MARKS = st.sampled_from(
    ["<answer>{}</answer>", "so #### {}", r"\boxed{{{}}}", "<answer>**{}**</answer>", "<answer>It is {}.</answer>",
     "<answer>答えは{}です。</answer>", "<think>1 + 1 = 2</think><answer>\n{}\n</answer>"]
)  # fmt: skip
UNITS = st.sampled_from(
    ["", " miles", "km", " km/h", r"\text{ km}", " cm^2", "個", "円", " メートル", "%", " (or so)", "."]
)
NUMBERS = st.integers(-(10**9), 10**9)


@settings(max_examples=200, deadline=None)
@given(MARKS, st.sampled_from(["", "$", "about ", r"\$"]), NUMBERS, UNITS, NUMBERS)
def test_a_number_in_any_mark_with_any_unit_is_that_number_and_no_other(mark, before, number, unit, other):
    for digits in (f"{number}", f"{number:,}"):
        verdict = grade(mark.format(f"{before}{digits}{unit}"), [str(number)])
        assert verdict.strict
        assert verdict.lenient
        is_other = other not in (number, number / 100 if unit == "%" else number)
        assert grade(mark.format(f"{before}{digits}{unit}"), [str(other)]).lenient == (not is_other)


@settings(max_examples=200, deadline=None)
@given(NUMBERS.filter(lambda n: n > 1), NUMBERS.filter(lambda n: n > 1), st.data())
def test_a_part_is_never_the_whole(one, other, data):
    form = data.draw(
        st.sampled_from(["({}, {})", "[{}, {})", "{}-{}", "{} to {}", "{}~{}", "{}x + {}", "{}:{}", "{}万{}", "{}か{}"])
    )
    written = form.format(one, other)
    for frame in ("{}", "The answer is {}.", "<answer>{}</answer>", "答えは{}です。"):
        assert not grade(frame.format(written), [str(one)]).lenient
        assert not grade(frame.format(written), [str(other)]).lenient


@settings(max_examples=200, deadline=None)
@given(st.fractions(min_value=-1000, max_value=1000, max_denominator=999))
def test_a_fraction_is_itself_in_every_notation(value):
    above, below = value.numerator, value.denominator
    for written in (f"{above}/{below}", rf"\frac{{{above}}}{{{below}}}", rf"$\dfrac{{{above}}}{{{below}}}$"):
        assert answers_match(written, [f"{above}/{below}"])
        assert not answers_match(written, [f"{above}/{below + 1}"]) or above == 0


def spelled_in_kanji(number):
    """Japanese numerals, written independently of the reader."""
    parts = []
    for power, name in ((8, "億"), (4, "万"), (0, "")):
        section, number = divmod(number, 10**power)
        text = ""
        for unit, mark in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
            digit, section = divmod(section, unit)
            if digit:
                text += ("" if digit == 1 and unit > 1 else "〇一二三四五六七八九"[digit]) + mark
        parts += [text + name] if text else []
    return "".join(parts)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 10**12 - 1))
def test_kanji_numerals_are_numbers(number):
    numeral = spelled_in_kanji(number)
    assert answers_match(numeral, [str(number)])
    assert grade(f"答えは{numeral}円です。", [str(number)]).lenient
    assert not answers_match(numeral, [str(number + 1)])


PIECES = st.sampled_from(
    ["1", "2", "12,345", "3/4", " ", "\n", "x", "=", "+", "-", "*", "/", "^", "(", ")", "[", "{", "}", "\\frac",
     "\\text{", "\\boxed{", "$", "\\(", "<answer>", "</answer>", "####", "answer is ", "答えは", "です", "。",
     "、", "万", "二", "十", "零", "分の", "と", "割", "%", "円", "「", "（", "）", "【", "】", "※", "○", "×",
     "も正解", " or ", "か", "not ", " to ", ":", "<", "√", "π", "½", "²", "e-5", "k", " million", "<think>",
     "</think>", "**", "_", "\ud800", "\x00", "猫", "㈱", "the "]
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.lists(PIECES, max_size=30).map("".join), st.lists(PIECES, max_size=6).map("".join))
def test_anything_is_graded(written, gold):
    verdict = grade(written, [gold])
    assert verdict.lenient or not verdict.strict
    candidate(written)
    assert vote([written, gold, None], [0.0, 0.0, 0.0]).total == 3
    assert isinstance(settle(written, gold).equal, bool)
