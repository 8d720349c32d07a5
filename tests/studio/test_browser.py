"""What a person does on the page, in a real Chromium: no error on the console, no request but to the page itself."""

import json
import threading
import time

import pytest

from tests.faults.test_hostile_display import ATTACK, ATTACKS

EVERY_LOOK = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]


def ask(page, question="7+5*3=", where="#question"):
    page.fill(f"{where} textarea", question)
    page.press(f"{where} textarea", "Enter")


def answered(page):
    """The answer in the strip, once it is there."""
    page.wait_for_function("!['', '…'].includes(document.querySelector('#board .end .said')?.innerText.trim() ?? '')")
    page.wait_for_selector("#question button:has-text('Ask')")
    return page.inner_text("#board .end .said code:last-child")


@pytest.mark.parametrize(("width", "scheme"), EVERY_LOOK)
def test_ask_see_thoughts_swap_one_see_the_answer_change(width, scheme, visit, thinkers):
    page = visit(width, scheme)
    ask(page)
    before = answered(page)
    *_, written = thinkers["latent"].answer(thinkers["latent"].think("7+5*3=", 3))
    assert before == written.answer
    assert page.inner_text("#chat .bot").strip() == written.answer
    assert page.locator("#board .cell").count() == 3
    assert page.locator("#heat tbody tr").count() == 3, "two layers and the embedding"
    assert page.locator("#heat tbody td").count() == 9

    ask(page, "1+1=", "#other")
    page.wait_for_selector("#donors .cell")
    page.click("#board .cell >> nth=0")
    page.wait_for_selector("#board .cell.picked")
    page.click("#donors .cell >> nth=1")
    page.wait_for_selector("#changes .track")
    after = page.inner_text("#changes .new .answer")
    assert after != before
    assert page.inner_text("#changes .side:first-child .answer") == before
    assert page.inner_text("#board .end .put") == after
    assert page.locator("#changes .track").count() == 2
    assert "The answer changes." in page.inner_text("#changes")
    assert "thought 1 swapped for thought 2 of 1+1=" in page.inner_text("#changes")

    dark = page.evaluate("getComputedStyle(document.querySelector('#board .cell')).backgroundColor")
    assert (dark == "rgb(255, 255, 255)") is (scheme == "light") or "oklab" in dark or "srgb" in dark
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), "no overflow"
    page.click("#board [data-act=restore]")
    page.wait_for_function("!document.querySelector('#changes .pair')")
    assert page.inner_text("#board .end .said") == before


def test_zero_noise_a_token_and_a_drag(visit, thinkers):
    page = visit()
    ask(page)
    before = answered(page)
    page.click("#board .cell >> nth=2")
    for act, done in (("zero", "thought 3 zeroed"), ("noise", "thought 3 replaced by noise")):
        page.click(f"#board [data-act={act}]")
        page.wait_for_selector(f"#changes .pair:has-text('{done}')")
    page.click("#board .chip >> nth=0")
    page.wait_for_selector("#changes .pair:has-text('thought 3 replaced by the token')")
    page.fill("#token textarea", "12")
    page.press("#token textarea", "Enter")
    page.wait_for_selector("#board .refused:has-text('is 2 tokens')")
    page.fill("#token textarea", "z")
    page.press("#token textarea", "Enter")
    page.wait_for_selector("#changes .pair:has-text('replaced by the token z, later thoughts follow')")
    page.click("#follow label:has-text('are kept')")
    page.wait_for_selector("#changes .pair:has-text('all others kept')")
    page.click("#board [data-act=restore]")
    ask(page, "1+1=", "#other")
    page.wait_for_selector("#donors .cell")
    page.drag_and_drop("#donors .cell >> nth=2", "#board .cell >> nth=1")
    page.wait_for_selector("#changes .pair:has-text('thought 2 swapped for thought 3')")
    assert page.inner_text("#changes .side:first-child .answer") == before


def test_presses_in_a_hurry_are_all_heard(visit, thinkers, monkeypatch):
    """The page is drawn anew at each token: no press may be lost to an answer that is being written."""
    answer = thinkers["latent"].answer

    def slowly(thoughts):
        for written in answer(thoughts):
            time.sleep(0.1)
            yield written

    page = visit()
    ask(page)
    answered(page)
    monkeypatch.setattr(thinkers["latent"], "answer", slowly)
    page.click("#board .cell >> nth=1")
    page.click("#board [data-act=zero]")
    page.click("#board .cell >> nth=2")
    page.click("#board [data-act=noise]")
    page.wait_for_selector("#changes .pair:has-text('thought 2 zeroed, thought 3 replaced by noise')")
    button = page.locator("#board [data-act=zero]").bounding_box()
    page.mouse.move(button["x"] + button["width"] / 2, button["y"] + button["height"] / 2)
    page.mouse.down()
    page.evaluate("board = document.querySelector('#board [data-act=zero]'); board.replaceWith(board.cloneNode(true))")
    page.mouse.up()
    page.wait_for_selector("#changes .pair:has-text('thought 2 zeroed, thought 3 zeroed')")


def test_sliders_known_questions_votes_and_sides(visit):
    page = visit()
    page.click("#known input")
    page.click("[role=option]:has-text('7+5*3=')")
    page.wait_for_function("document.querySelector('#steps textarea').value == '2\\n6'")
    page.fill("#k input[type=number]", "2")
    page.press("#k input[type=number]", "Tab")
    page.press("#question textarea", "Enter")
    answered(page)
    assert page.locator("#board .cell").count() == 2
    assert [hint.inner_text() for hint in page.query_selector_all("#board .hint")] == ["expects 2", "expects 6"]
    assert page.locator("#heat .wanted").all_inner_texts() == ["2", "6"]
    page.get_by_role("tab", name="Vote").click()
    page.click("#vote")
    page.wait_for_selector("#ballots .card")
    counts = [int(text.split()[0]) for text in page.locator("#ballots .head span:last-child").all_inner_texts()]
    assert sum(counts) == 10
    page.get_by_role("tab", name="Side by side").click()
    page.click("#beside")
    page.wait_for_selector("#sides .card")
    assert [text.split(" · ")[0] for text in page.locator("#sides .head span").all_inner_texts()] == ["latent", "words"]
    assert page.locator("#sides .card >> nth=0").locator(".cell").count() == 3, "its own K"


def test_curves_go_on_and_reports_run_nothing(visit, runs):
    page = visit(may=["Blocked script execution"])
    page.get_by_role("tab", name="Runs").click()
    page.click("#listed button:has-text('<b>on')")
    page.wait_for_selector("#curves figcaption:has-text('0.3333')")
    assert page.inner_text("#listed tr:has-text('done') td >> nth=0") == "finished"
    assert page.inner_text("#listed tr:has-text('<b>on') td >> nth=0") == "going on"
    with (runs / "going/seed-0/<b>on/metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 4, "loss": 0.0625, "p": 0.4}) + "\n")
    page.wait_for_selector("#curves figcaption:has-text('0.0625')", timeout=15_000)
    page.click("#listed button:has-text('done')")
    frame = page.wait_for_selector("#report iframe").content_frame()
    frame.wait_for_selector("h1:has-text('The report')")
    assert page.evaluate("window.hit") is None


def test_hostile_text_stays_text(visit):
    attack = f"{ATTACK}<img src=x onerror=alert(2)>{{{{value}}}}${{value}}[a](javascript:alert(3))".replace(
        "\udcff", ""
    )
    page = visit()
    page.fill("#steps textarea", attack)
    ask(page, attack)
    answered(page)
    ask(page, attack, "#other")
    page.wait_for_selector("#donors .cell")
    page.click("#board .cell >> nth=0")
    page.wait_for_selector("#board .cell.picked")
    page.click("#donors .cell >> nth=0")
    page.wait_for_selector("#changes .track")
    for where in ("#chat .user", "#donors", "#changes"):
        shown = page.inner_text(where)
        for piece in (
            "<script>alert(1)</script>",
            "![x](http://evil.example/a.png)",
            "<img src=x",
            "{{value}}",
            "${value}",
        ):
            assert piece in shown, where
        assert "␛]0;owned␇" in shown
        assert not set("".join(ATTACKS)) & set(shown) & {"\x1b", "\x9b", "\u202e", "\x07", "\x08"}
    assert (
        page.locator("#chat img, .drawing img, .drawing script, #chat script, .drawing a, #chat .message a").count()
        == 0
    )


def test_what_cannot_be_done_is_told_in_the_chat(visit):
    page = visit()
    ask(page, "1" * 3000)
    page.wait_for_selector("#chat .bot:has-text('tokens, and the model takes')")
    page.wait_for_selector("#question button:has-text('Ask')")
    ask(page)
    answered(page)


def test_stop_ends_the_answer_and_the_model(visit, thinkers, monkeypatch):
    monkeypatch.setattr(thinkers["latent"], "max_new_tokens", 1900)
    page = visit()
    before = threading.active_count()
    ask(page)
    page.wait_for_selector("#chat .bot:has-text('ccc')")
    page.click("#question button.stop-button")
    page.wait_for_selector("#question button:has-text('Ask')")
    page.wait_for_timeout(500)  # what was on its way has come
    shown = page.inner_text("#chat .bot")
    page.wait_for_timeout(500)
    assert page.inner_text("#chat .bot") == shown
    assert len(shown) < 1900
    assert threading.active_count() <= before + 2, "of the server's pool"
    page.click("#board .cell >> nth=0")
    page.wait_for_selector("#board .cell.picked")
