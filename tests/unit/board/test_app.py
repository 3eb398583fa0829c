"""The board's pages: who sees what, what nobody can do, and that nothing that may hide blood is hidden."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.testclient import TestClient

from ich_node.board import app as app_module
from ich_node.board import drift, people, role, view
from ich_node.board import words as board_words
from ich_node.board.app import Board, build
from ich_node.board.entrance import COOKIE, HEADERS
from ich_node.board.people import SECRET_HEADER, Proxy, Users
from ich_node.board.record import Record
from ich_node.board.studies import Studies
from ich_node.domain.dicom import Instance, Series
from ich_node.domain.findings import LABELS
from ich_node.runtime.config import BoardConfig, Config
from ich_node.store.ledger.jobs import JobStore
from tests.ledger_builder import CT_IMAGE, Clock, configuration, destination, publish_job, say_sent, write_instance
from tests.ports import free_port


def result(priority: str | None, present: tuple[str, ...] = (), reason: str | None = None) -> dict:
    findings = [
        {"label": label, "probability": 0.9 if label in present else 0.1, "present": label in present, "sites": []}
        for label in LABELS
    ]
    return {
        "schema": "ich_node/result/1",
        "priority": priority,
        "reason": reason,
        "findings": findings if reason is None else [],
        "provider": "CPUExecutionProvider",
        "model": {"id": "m", "version": "1"},
        "timings_s": {"model": 0.5},
    }


class Node:
    """A store with jobs, and the board over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config: Config = configuration(folder, destination("pacs", 1))
        self.clock = Clock()
        self.store = JobStore.open(folder, self.clock)

    def published(self, number: int, priority: str | None = "STAT", **told) -> int:
        job, _ = publish_job(self.store, self.folder, ["pacs"], series_uid=f"1.2.3.{number}", priority=priority)
        self.write(job.id, result(priority, **told))
        self.clock.now += 1
        return job.id

    def write(self, job: int, found: dict) -> None:
        path = self.folder / "results" / str(job) / "result.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found))

    def board(self, **changes) -> Board:
        board = role.make(self.config, self.store)
        board.clock = self.clock
        for name, value in changes.items():
            setattr(board, name, value)
        return board


@pytest.fixture
def node(tmp_path):
    made = Node(tmp_path)
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def users(tmp_path_factory) -> Users:
    file = tmp_path_factory.mktemp("users") / "users"
    lines = [people.line_for("ada", "operator", "pw-ada"), people.line_for("bob", "reader", "pw-bob")]
    file.write_text("\n".join(lines))
    return Users(file)


def client(board: Board, **headers: str) -> TestClient:
    return TestClient(build(board), headers=headers, follow_redirects=False)


def signed_in(board: Board, name: str = "ada") -> TestClient:
    page = client(board)
    answer = page.post("/sign-in", data={"name": name, "password": f"pw-{name}"})
    assert answer.status_code == 303
    return page


def csrf(page: TestClient) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page.get("/").text)
    assert found is not None
    return found[1]


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_what_may_hide_blood_comes_before_what_does_not(node):
    node.published(1, "ROUTINE")
    unknown = node.published(2, None, reason="a bone kernel")
    node.published(3, "HIGH", present=("any",))
    node.published(4, "STAT", present=("any", "subdural"))
    failed = node.store.enqueue(series("1.2.3.5"))
    node.store.fail(node.store.claim("w"), "the engine failed")
    order = re.findall(r'id="job-(\d+)"', client(node.board()).get("/").text)
    assert order == ["4", "3", str(failed.id), str(unknown), "1"]


def series(uid: str) -> Series:
    return Series("1.2.3", uid, (Instance("1.2.3", uid, "1.2.840.10008.5.1.4.1.1.2", f"{uid}.1", "1.2", Path()),))


def test_who_waits_longest_comes_first(node):
    first, second = node.published(1), node.published(2)
    assert re.findall(r'id="job-(\d+)"', client(node.board()).get("/").text) == [str(first), str(second)]


def test_a_corrected_result_replaces_the_old_one_on_the_list_and_names_it(node):
    old = node.published(1)
    say_sent(node.store, *node.store.due("pacs"))
    new = node.store.redo(old).id
    assert node.store.claim("w").id == new
    node.store.publish(node.store.job(new), [], priority="ROUTINE")
    page = client(node.board())
    assert f'id="job-{old}"' not in page.get("/").text
    assert f'id="job-{old}"' in page.get("/?show=all").text
    assert f"/study/{new}" in page.get(f"/study/{old}").text


def test_a_destination_that_waits_says_why(node):
    node.published(1)
    for item in node.store.due("pacs"):
        node.store.postpone(item, "0xA700", "out of resources", node.clock.now + 60)
    assert "out of resources" in client(node.board()).get("/").text


def test_a_cause_is_on_the_page_as_soon_as_it_is_known_although_the_job_does_not_move(node):
    node.published(1)
    board = node.board()
    studies, revision = board.studies, board.studies.revision
    node.store.postpone(node.store.due("pacs")[0], "0xA700", "out of resources", node.clock.now + 60)
    studies.refresh()
    assert studies.revision == revision + 1
    assert studies.cards[0].destinations[0].trouble == "out of resources"
    say_sent(node.store, *node.store.due("pacs"))
    studies.refresh()
    assert studies.cards[0].destinations[0].sent == 2


def test_what_is_finished_is_not_asked_for_again(node, monkeypatch):
    for number in range(3):
        node.published(number)
    say_sent(node.store, *node.store.due("pacs"))
    studies = node.board().studies
    asked = []
    standing = node.store.standing
    monkeypatch.setattr(node.store, "standing", lambda ids: asked.extend(ids) or standing(ids))
    new = node.published(3)
    assert studies.refresh() == {new}
    assert asked == [new]
    assert {card.job.id: card.destinations[0].sent for card in studies.cards} == {1: 3, 2: 3, 3: 3, new: 0}


def test_pages_that_ask_the_same_share_a_list(node, users, monkeypatch):
    node.published(1)
    board = node.board(users=users)
    ada, made = signed_in(board, "ada"), []
    shown = app_module.Pages._shown
    monkeypatch.setattr(app_module.Pages, "_shown", lambda self, *a: made.append(1) or shown(self, *a))
    first = ada.get("/rows").text
    assert ada.get("/rows").text == first
    assert len(made) == 1
    ada.get("/rows?show=STAT")
    node.published(2)
    board.studies.refresh()
    assert 'id="job-2"' in ada.get("/rows").text
    assert len(made) == 3


def test_a_list_with_names_is_never_shared_with_a_guest(node):
    node.published(1)
    board = node.board()
    uid = board.studies.cards[0].job.sop_instance_uids[0]
    write_instance(node.folder / "incoming" / "1.2.3.1" / f"{uid}.dcm", CT_IMAGE, uid)
    pages = app_module.Pages(board)
    request = Request({"type": "http", "headers": [], "query_string": b"", "root_path": ""})
    someone = people.Session(people.Person("ada", "reader"), "t", 0.0, 0.0)
    with_names, without = pages._rows_html(request, someone), pages._rows_html(request, None)
    assert ("DELIVERY, TEST" in with_names, "DELIVERY" in without) == (True, False)


def test_a_result_that_is_gone_or_broken_hides_no_study(node):
    job = node.published(1)
    (node.folder / "results" / str(job) / "result.json").write_text("{")
    answer = client(node.board()).get("/")
    assert answer.status_code == 200
    assert f'id="job-{job}"' in answer.text


def test_what_a_peer_wrote_is_text_not_markup(node):
    job = node.published(1, None, reason="x")
    node.write(job, {**result(None, reason="x"), "warnings": ["<script>alert(1)</script>"]})
    text = client(node.board()).get(f"/study/{job}").text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_both_languages_have_every_page(node):
    job = node.published(1, "STAT", present=("any", "epidural"))
    page = client(node.board(), **{"Accept-Language": "de-CH, en;q=0.5"})
    for path in ("/", f"/study/{job}", "/operations"):
        assert 'lang="de"' in page.get(path).text


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("MUSTER^ANNA^B^DR^", "MUSTER, DR ANNA B"),
        ("PHANTOM^HEAD", "PHANTOM, HEAD"),
        ("ONLY", "ONLY"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada, Tarou · 山田, 太郎 · やまだ, たろう"),
        ("^^^^", ""),
        ("a^b^c^d^e^f^g=h=i=j", "a, d b c e · h · i · j"),
    ],
)
def test_a_name_is_written_as_people_write_it(sent, shown):
    assert view.person(sent) == shown


# --- who sees it -----------------------------------------------------------------------------------------------------


def test_without_users_everybody_sees_the_board_without_names_and_changes_nothing(node):
    job = node.published(1)
    page = client(node.board())
    assert page.get("/").status_code == 200
    assert page.post(f"/study/{job}/redo").status_code == 401
    assert page.post(f"/study/{job}/feedback", data={"opinion": "agree"}).status_code == 401


PRIVATE = ["/", "/rows", "/events", "/operations", "/study/1", "/study/1/slice/1", "/study/1/summary", "/feedback.csv"]


@pytest.mark.parametrize("path", PRIVATE)
def test_with_users_a_stranger_sees_nothing(node, users, path):
    node.published(1)
    assert client(node.board(users=users)).get(path).status_code == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_monitoring_needs_no_name_and_shows_none(node, users, path):
    node.published(1)
    answer = client(node.board(users=users)).get(path)
    assert answer.status_code == 200
    assert "TEST-1" not in answer.text


def test_a_browser_is_led_to_the_form(node, users):
    answer = client(node.board(users=users), Accept="text/html").get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")


def test_a_session_token_is_never_taken_from_a_request(node, users):
    board = node.board(users=users)
    page = client(board)
    page.cookies.set(COOKIE, "chosen-by-the-attacker")
    page.post("/sign-in", data={"name": "ada", "password": "pw-ada"})
    assert client(board, Cookie=f"{COOKIE}=chosen-by-the-attacker").get("/").status_code == 401


def test_the_cookie_is_for_this_page_alone(node, users):
    page = client(node.board(users=users))
    cookie = page.post("/sign-in", data={"name": "ada", "password": "pw-ada"}).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


def test_guessing_is_slowed_down(node, users):
    page = client(node.board(users=users))
    answers = [page.post("/sign-in", data={"name": "ada", "password": "no"}).status_code for _ in range(7)]
    assert answers == [403] * people.FREE_ATTEMPTS + [429] * 2
    assert page.post("/sign-in", data={"name": "ada", "password": "pw-ada"}).status_code == 429


@pytest.mark.parametrize("form", [{}, {"csrf": ""}, {"csrf": "guess"}])
def test_a_form_without_the_token_of_the_session_does_nothing(node, users, form):
    job = node.published(1)
    page = signed_in(node.board(users=users))
    assert page.post(f"/study/{job}/redo", data=form).status_code == 403
    assert page.post("/sign-out", data=form).status_code == 403
    assert len(node.store.jobs()) == 1


def test_a_form_of_another_site_does_nothing(node, users):
    job = node.published(1)
    page = signed_in(node.board(users=users))
    form = {"csrf": csrf(page)}
    answer = page.post(f"/study/{job}/redo", data=form, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403


def test_the_token_of_another_session_does_nothing(node, users):
    job = node.published(1)
    board = node.board(users=users)
    foreign = csrf(signed_in(board, "bob"))
    assert signed_in(board, "ada").post(f"/study/{job}/redo", data={"csrf": foreign}).status_code == 403


def test_an_operator_has_a_study_analysed_again_and_a_reader_has_not(node, users):
    job = node.published(1)
    say_sent(node.store, *node.store.due("pacs"))
    board = node.board(users=users)
    reader, operator = signed_in(board, "bob"), signed_in(board, "ada")
    assert reader.post(f"/study/{job}/redo", data={"csrf": csrf(reader)}).status_code == 403
    assert operator.post(f"/study/{job}/redo", data={"csrf": csrf(operator)}).status_code == 303
    assert len(node.store.jobs()) == 2


def test_what_a_proxy_says_counts_only_with_its_secret(node):
    node.published(1)
    board = node.board(proxy=Proxy("X-Remote-User", "X-Remote-Role", "s" * 32))
    assert client(board, **{"X-Remote-User": "ada"}).get("/").status_code == 401
    assert client(board, **{"X-Remote-User": "ada", SECRET_HEADER: "s" * 31}).get("/").status_code == 401
    assert client(board, **{"X-Remote-User": "ada", SECRET_HEADER: "s" * 32}).get("/").status_code == 200


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/study/1/slice/..%2f..", "/study/-1"])
def test_no_path_leads_out_of_the_board(node, path):
    node.published(1)
    answer = client(node.board()).get(path)
    assert answer.status_code == 404
    assert "import" not in answer.text


def test_every_answer_forbids_what_is_not_ours(node, users):
    page = client(node.board(users=users))
    for path in ("/", "/sign-in", "/static/board.js", "/nowhere", "/metrics"):
        assert page.get(path).headers["content-security-policy"] == HEADERS["Content-Security-Policy"]
        assert "unsafe" not in page.get(path).headers["content-security-policy"]


def test_no_page_has_script_or_style_in_it(node, users):
    job = node.published(1, "STAT", present=("any",))
    page = signed_in(node.board(users=users))
    for path in ("/", f"/study/{job}", "/operations", "/sign-in"):
        text = page.get(path).text
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text)


def test_a_large_body_is_turned_away(node, users):
    answer = client(node.board(users=users)).post("/sign-in", content=b"x" * 100_000)
    assert answer.status_code == 413


def test_an_operator_begins_a_new_reference_and_a_reader_does_not(node, users):
    board = node.board(users=users)
    reader, operator = signed_in(board, "bob"), signed_in(board, "ada")
    assert reader.post("/reference", data={"csrf": csrf(reader)}).status_code == 403
    assert operator.post("/reference", data={}).status_code == 403
    assert operator.post("/reference", data={"csrf": csrf(operator)}).status_code == 303
    (line,) = Record(node.folder / "board" / "results.jsonl").lines
    assert (line.moment, line.person) == (node.clock.now, "ada")


# --- feedback, news, monitoring --------------------------------------------------------------------------------------


def test_an_opinion_is_kept_shown_and_exported(node, users):
    job = node.published(1, "STAT", present=("any",))
    page = signed_in(node.board(users=users), "bob")
    form = {"csrf": csrf(page), "opinion": "disagree", "label": "subdural", "side": "left", "comment": "rim"}
    assert page.post(f"/study/{job}/feedback", data=form).status_code == 303
    assert "rim" in page.get(f"/study/{job}").text
    assert "disagree,subdural,left,rim" in page.get("/feedback.csv").text
    assert f'id="job-{job}"' not in page.get("/").text  # reviewed: no longer open
    assert f'id="job-{job}"' in page.get("/?show=STAT").text


def test_an_opinion_that_is_none_is_refused(node, users):
    job = node.published(1)
    page = signed_in(node.board(users=users), "bob")
    assert page.post(f"/study/{job}/feedback", data={"csrf": csrf(page), "opinion": "perhaps"}).status_code == 400


def test_a_new_stat_is_told_to_open_pages_and_an_old_one_is_not(node):
    node.published(1)
    board = node.board()

    async def told() -> list[str]:
        news = board.news
        watcher = asyncio.create_task(news.watch(lambda: None))
        listener = news.listen()
        first = await anext(listener)
        node.published(2)
        second = await asyncio.wait_for(anext(listener), 60)
        watcher.cancel()
        await listener.aclose()
        return [first, second]

    first, second = asyncio.run(told())
    assert json.loads(first.split("data: ")[1])["stat"] == []
    assert json.loads(second.removeprefix("data: "))["stat"] == [2]


@pytest.mark.parametrize(
    ("language", "words"), [("en", "brain denser than 39.0 HU"), ("de", "Hirn dichter als 39.0 HU")]
)
def test_what_has_moved_is_on_the_page_of_operations(node, language, words):
    board = node.board()
    assert f"0 / {drift.BASELINE}" in client(board).get("/operations").text
    share = drift.Share("brain_hu_above", "39.0", lambda _: None, 0.05, 0.25, limit=9.0)
    board.trend.drift.shares = (share,)
    board.trend.drift.alarms.append(drift.Alarm(node.clock.now, "brain_hu_above", "39.0", 0.05, 0.8))
    share.add(True)
    page = client(board, **{"Accept-Language": language})
    assert f"{words}: 80 %" in page.get("/operations").text
    assert f'ich_node_drift_alarm{{what="{board_words.EN.moved(share)}"}} 1.0' in page.get("/metrics").text


def test_places_and_plain_reasons_are_in_the_language_of_the_page(node):
    job = node.published(1, "STAT")
    told = result("STAT", present=("any", "epidural"))
    told["findings"][1]["sites"] = ["frontal lobe"]
    node.write(job, told)
    refused = node.published(2, None, reason="x")
    node.write(refused, {**result(None, reason="contrast agent is named"), "reason_code": "contrast_named"})
    german = client(node.board(), **{"Accept-Language": "de"})
    assert "Frontallappen" in german.get(f"/study/{job}").text
    assert board_words.DE.reason("x", "contrast_named") != "x"
    assert board_words.DE.reason("x", "wide_field") == board_words.EN.reason("x", "contrast_named") == "x"


def test_nothing_is_read_again_while_nothing_changes(node):
    for number in range(3):
        node.published(number)
    studies = Studies(node.store, node.folder / "results")
    studies.refresh()
    revision, cards = studies.revision, studies.cards
    assert studies.refresh() == frozenset()
    assert (studies.revision, studies.cards) == (revision, cards)


def test_who_is_told_that_the_board_is_ready_finds_its_port_open(node, monkeypatch):
    port, found, stop = free_port(), [], threading.Event()

    def told(*words):
        if "READY=1" not in words:
            return
        with socket.create_connection(("127.0.0.1", port), 5):
            found.append(True)
        stop.set()

    monkeypatch.setattr(role.service, "notify", told)
    role.run(node.config.model_copy(update={"board": BoardConfig(port=port)}), stop)
    assert found == [True]


def test_a_queue_that_stands_still_is_not_ready(node):
    node.store.enqueue(series("1.2.3.9"))
    node.clock.now += 3600
    answer = client(node.board()).get("/readyz")
    assert answer.status_code == 503
    assert "does the worker run" in answer.text


def test_a_scrape_has_what_an_alert_needs(node):
    node.published(1)
    text = client(node.board()).get("/metrics").text
    for name in ("ich_node_results_total", "ich_node_queue_oldest_seconds", "ich_node_disk_free_bytes"):
        assert f"# TYPE {name}" in text
    assert 'ich_node_deliveries{destination="pacs",state="pending"} 3.0' in text


# --- a reverse proxy signs people in --------------------------------------------------------------------------------


def proxied(board: Board, name: str = "ada", role: str = "operator") -> TestClient:
    """A page behind the proxy, which adds its headers to every request."""
    return client(board, **{"X-Remote-User": name, "X-Remote-Role": role, SECRET_HEADER: "s" * 32})


def test_who_was_signed_in_by_the_proxy_gives_an_opinion(node):
    job = node.published(1, "STAT", present=("any",))
    board = node.board(proxy=Proxy("X-Remote-User", "X-Remote-Role", "s" * 32))
    page = proxied(board)
    form = {"csrf": csrf(page), "opinion": "agree"}
    assert page.post(f"/study/{job}/feedback", data=form).status_code == 303
    assert proxied(board, "bob").post(f"/study/{job}/feedback", data=form).status_code == 403
    assert [entry.reader for entry in board.book.of_job(job)] == ["ada"]


def test_a_page_behind_the_proxy_that_asks_again_and_again_leaves_one_session(node):
    board = node.board(proxy=Proxy("X-Remote-User", "X-Remote-Role", "s" * 32))
    for _ in range(5):
        proxied(board).get("/")
        proxied(board, "bob").get("/")
    assert len(board.sessions._open) == 2


def test_a_reader_who_is_no_longer_an_operator_is_none_at_once(node):
    job = node.published(1)
    say_sent(node.store, *node.store.due("pacs"))
    board = node.board(proxy=Proxy("X-Remote-User", "X-Remote-Role", "s" * 32))
    token = csrf(proxied(board))
    reader = proxied(board, role="reader")
    assert reader.post(f"/study/{job}/redo", data={"csrf": token}).status_code == 403
    assert reader.post(f"/study/{job}/redo", data={"csrf": csrf(reader)}).status_code == 403
