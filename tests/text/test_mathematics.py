"""Mathematics that is equal and that is not, by kind: signs, units, mixed numbers, tuples, letters, powers, prose."""

import pytest

from latent_gemma.text.answers import grade
from tests.text.counting_verifier import CountingVerifier

RIGHT = [
    ("45°", "45"), (r"45^{\circ}", "45°"), ("30 degrees", r"30^\circ"), ("√2", r"\sqrt{2}"), ("√(2)", r"\sqrt2"),
    ("3√5", r"3\sqrt5"), ("√3/2", r"\frac{\sqrt{3}}{2}"), ("-∞", r"-\infty"), ("(-∞, 3]", r"(-\infty,3]"),
    ("12 cm", "12"), ("12", r"12 \text{ cm}"), (r"12\,\mathrm{cm}", "12"), (r"12\text{ cm}^2", "12"),
    (r"5\text{ m}", "5"), (r"\text{Monday}", "Monday"), (r"\textbf{Anna}", "Anna"), (r"\text{(A)}", "(A)"),
    ("2 1/2", "2.5"), (r"2\frac{1}{2}", r"\frac{5}{2}"), (r"0.\overline{6}", r"\frac{2}{3}"),
    (r"0.1\overline{6}", r"\frac16"), ("¾", "0.75"), ("1½", r"\frac32"), ("3pi", r"3\pi"), ("3π", r"3\pi"),
    (r"\pi/2", r"\frac{\pi}{2}"), ("(3, 100)", "(3,100)"), ("3,100", "3100"), ("(1,200,300)", "(1, 200, 300)"),
    ("12 units", "12"), ("8 apples", "8"), ("y=2x", "2x"), ("x=5", "5"), ("5", "x=5"), ("10^{-8}", "10^{-8}"),
    ("101_2", "101_{2}"), ("50%", r"50\%"), (r"50\%", "0.5"), ("25 percent", "25"), ("x>3", r"(3,\infty)"),
    (r"x \ge 3", r"[3,\infty)"), ("1<x<4", "(1,4)"), ("AB", "AB"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix}1&2\\3&4\end{bmatrix}"),
    (r"\{1,2,3\}", r"\{3,2,1\}"), ("1, 2, 3", "3,2,1"), (r"\pm 2", "2,-2"), (r"\pm\sqrt{2}", r"\pm \sqrt2"),
    (r"\frac{1}{\sqrt{3}}", r"\frac{\sqrt{3}}{3}"), (r"\sqrt{12}", r"2\sqrt3"), ("(x+1)^2", "x^2+2x+1"),
    (r"\frac{x}{2}", "0.5x"), (r"\dfrac{3}{4}", "3/4"), (r"\frac34", "0.75"), ("0.333333333", r"\frac13"),
    (r"-\frac{1}{2}", "-0.5"), (r"\frac{-1}{2}", r"-\frac12"), (r"\$5", "5"), ("5!", "120"),
    (r"\binom{5}{2}", "10"), (r"\log_2 8", "3"), (r"\emptyset", r"\varnothing"), ("1+2i", "2i+1"),
    ("[1,2)", "[1, 2)"), ("(1,2)", "(1,2)"), (r"[1,2]\cup[3,4]", r"[3,4]\cup[1,2]"), ("10:45", "10:45"),
    (r"\text{even}", "even"), ("f(x)=2x", "2x"), (r"\frac{1}{2}\text{ cup}", r"\frac{1}{2}"),
    (r"12\text{ inches}", r"12\text{ in}"), ("1{,}000", "1000"), (r"1\,000", "1000"),
    (r"\left(2, 3\right)", "(2,3)"), ("x = -2, 3", "-2, 3"), (r"\mathrm{e}", "e"), ("2^{10}", "1024"),
    ("2^{-1}", "0.5"), (r"\infty", r"\infty"), (r"\sin^2 x+\cos^2 x", "1"), ("４２", "42"), ("42個", "42"),
    ("答えは42です", "42"), (r"The answer is $\frac{1}{2}$.", "0.5"), (r"Hence $x=\frac{3}{2}$.", r"\frac32"),
    ("We get $a = 3$ and then $b = 7$.", "7"), (r"Thus \(y = \sqrt{2}\)", r"\sqrt2"), (r"So \[ x = 4 \]", "4"),
    (r"The set is $\{1,2\}$.", r"\{1,2\}"), ("Therefore $1+1=2$", "2"),
    (r"The area is $12\pi$ square units.", r"12\pi"), ("$3x+2=8$ so $x=2$", "2"),
    (r"\boxed{5} and then \boxed{}", "5"), (r"\boxed{7}. Check: \boxed{ }", "7"),
    (r"The answer is \(\frac{3}{4}\).", r"\frac{3}{4}"), ("It costs $5 and $6, so $11.", "11"),
    (r"The answer is $x \in (2, 5)$.", "(2,5)"), ("solution: $x>2$", "x>2"),
    (r"Therefore, $x = \frac{3}{4}$.", r"\frac34"), (r"so $\frac{6}{8} = \frac{3}{4}$", "0.75"),
    ("Thus we have $a=1$, $b=2$.", "2"), (r"The value is \(2^{3} = 8\)", "8"), ("$$x = 7$$", "7"),
    (r"We get \[\frac{1}{2}+\frac{1}{3}=\frac{5}{6}.\]", r"\frac56"),
    (r"$(-\infty, 3) \cup (5, \infty)$", r"(-\infty,3)\cup(5,\infty)"),
    ("Hence the answer is $(2, -1)$.", "(2,-1)"), (r"The answer is \boxed{}. Sorry: \boxed{9}", "9"),
    (r"\boxed{9} \boxed{}", "9"), (r"\boxed{9}, and \fbox{}", "9"), ("$x^2 + 3x + 2$", "(x+1)(x+2)"),
    ("The polynomial is $x^2 + 3x + 2$.", "(x+1)(x+2)"), ("The answer is -3/4", "-0.75"),
    (r"\frac{\pi}{6}", r"\pi/6"), (r"30^{\circ}", "30"), ("3.0", "3"), ("3.00", "3"), (r"\frac{9}{3}", "3"),
    (r"\sqrt{9}", "3"), (r"\sqrt[3]{27}", "3"), ("2^3", "8"), ("|{-3}|", "3"), (r"\lfloor 3.5 \rfloor", "3"),
    ("1,2", "2,1"), ("(1,2),(3,4)", "(3,4),(1,2)"), ("x=1, y=2", "(1,2)"), (r"1 \text{ and } 2", "1,2"),
    ("1 or 2", "1,2"), (r"\text{no solution}", "no solution"), ("No solution", r"\text{no solution}"),
    (r"\text{June 5}", "June 5"), ("12:30", "12:30"), (r"\text{12 apples}", "12"), (r"\$12.50", "12.5"),
    ("12.50 dollars", "12.5"), (r"12 \text{ square units}", "12"), (r"\frac{2}{3}\text{ of the cake}", r"\frac23"),
    ("y = 3x + 1", "y=1+3x"), ("3x+1", "y=3x+1"), ("x^2+y^2=1", "y^2+x^2=1"), (r"-2 \le x \le 2", "[-2,2]"),
    (r"x \neq 3", r"x\ne 3"), ("a<b", "b>a"), (r"x=\pm 3", r"\pm 3"), ("3,-3", r"\pm 3"),
    ("(0.5, 1)", r"(\frac12, 1)"), ("10^3", "1000"), (r"1.5 \times 10^3", "1500"),
]  # fmt: skip

WRONG = [
    ("2 1/2", r"\frac{1}{2}"), (r"0.\overline{3}", "0.3"), ("(3,100)", "3100"), ("3100", "(3,100)"), ("5x", "5"),
    ("7m", "7"), ("3k", "3"), ("2ab", "2"), ("x+1=0", "0"), ("2x=10", "10"), ("a^2+b^2=c^2", "c^2"),
    ("7^{-50}", "7^{-51}"), ("10^{-8}", r"2\times 10^{-8}"), (r"1.0\times10^{-9}", r"1.1\times10^{-9}"),
    ("e^{-40}", "e^{-41}"), ("101_2", "101_3"), ("204_5", "204"), (r"x\le 3", r"(-\infty,3)"), ("PQ", "QP"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&5\end{pmatrix}"), ("(1,2)", "(2,1)"),
    (r"\{1,2\}", r"\{1,2,3\}"), (r"\pm 2", "2"), ("(x+1)^2", "x^2+1"), ("0.33", r"\frac13"), ("5!", "5"),
    ("2i", "2"), ("(1,2)", "[1,2]"), ("3:4", "4:3"), (r"\text{odd}", "even"), (r"6\text{ PM}", r"6\text{ AM}"),
    (r"5\text{ km}", r"5\text{ m}"), (r"\Delta", r"\delta"), ("A", "B"), (r"3\mathrm{i}", "3"),
    (r"-\infty", r"\infty"), (r"8\pi", "25.13"), (r"\boxed{}", "5"), ("The roots are $x=2$ and $x=3$.", "2,3"),
    ("0", r"\emptyset"), ("12 apples and 3 pears", "12"), (r"3\text{ hours}", r"180\text{ minutes}"),
    ("y=3x+1", "y=3x+2"), ("x^2+y^2=1", "1"), ("0.5", "50"), ("1e3", "1000"), (r"\frac{1}{0}", "1"), ("", "1"),
    (r"\frac", "1"), ("}{", "1"), (r"\boxed{\frac{1}{2}", r"\frac12"),
]  # fmt: skip


@pytest.fixture(scope="module")
def verifier():
    with CountingVerifier(timeout_s=20) as shared:
        yield shared
        assert (shared.timeouts, shared.crashes) == (0, 0)


@pytest.mark.parametrize(("written", "gold"), RIGHT)
def test_equal_mathematics(verifier, written, gold):
    assert grade(written, [gold], verifier.equal).lenient


@pytest.mark.parametrize(("written", "gold"), WRONG)
def test_other_mathematics(verifier, written, gold):
    assert not grade(written, [gold], verifier.equal).lenient
