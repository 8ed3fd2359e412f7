"""`solo dashboard`: the file, the server, and what they refuse."""

import json
import signal
import socket

import httpx
import pytest

from grading import progress
from grading.dashboard.current import current_page, version
from grading.events import Note

DAMAGED = '{"schema": 1, "events": [{"id": "half'


def test_the_page_and_its_version_are_served_until_interrupted(served):
    address, process = served
    answer = httpx.get(address)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["cache-control"] == "no-store"
    told = json.loads(httpx.get(f"{address}version").text)["version"]
    assert f'data-version="{told}"' in answer.text
    progress.append(Note(unit="phase1/lab1", text="strides"))
    assert httpx.get(f"{address}version").json()["version"] != told
    assert "strides" in httpx.get(address).text
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert process.stderr.read() == ""


def test_only_get_under_its_own_name(served):
    address, _ = served
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert httpx.request(method, address).status_code == 405, method
    port = httpx.URL(address).port
    for host, status in ((f"localhost:{port}", 200), (f"evil.example:{port}", 404), ("127.0.0.1.evil.example", 404)):
        assert httpx.get(address, headers={"Host": host}).status_code == status, host
        assert httpx.get(f"{address}version", headers={"Host": host}).status_code == status, host
    assert httpx.get(f"{address}../progress.json").status_code == 404


def test_it_listens_on_this_machine_only(served):
    port = httpx.URL(served[0]).port
    with pytest.raises(OSError), socket.create_connection(("127.0.0.2", port), timeout=2):
        pass


def test_a_taken_port_is_one_sentence(solo, curriculum):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = solo("dashboard", "--port", str(port))
    assert (code, out) == (2, "")
    assert err == f"solo: Port {port} is taken by another program: choose another `--port`, or leave it out.\n"


def test_html_writes_the_page_and_replaces_its_own(solo, curriculum, tmp_path):
    file = tmp_path / "me.html"
    assert solo("dashboard", "--html", str(file))[0] == 0
    first = file.read_text()
    progress.append(Note(unit="phase1/lab1", text="strides"))
    code, out, _ = solo("dashboard", "--html", str(file))
    assert (code, out.split()[0]) == (0, "Written:")
    assert "strides" in file.read_text()
    assert "strides" not in first
    assert "data-live" not in first


@pytest.mark.parametrize("kind", ["page", "folder", "no folder"])
def test_html_refuses_what_is_not_its_own(solo, curriculum, tmp_path, kind):
    file = tmp_path / "mine.html"
    if kind == "page":
        file.write_text("<p>my own</p>")
    elif kind == "folder":
        file.mkdir()
    else:
        file = tmp_path / "nowhere" / "mine.html"
    code, out, err = solo("dashboard", "--html", str(file))
    assert (code, out) == (2, "")
    assert ("does not exist" if kind == "no folder" else "is no dashboard") in err
    assert kind != "page" or file.read_text() == "<p>my own</p>"


def test_a_damaged_record_is_set_aside_and_the_page_says_so(curriculum):
    progress.path().write_text(DAMAGED)
    text = current_page("version")
    (aside,) = progress.path().parent.glob("progress.json.*-backup")
    assert aside.read_text() == DAMAGED
    assert "Your record could not be read and was set aside, unchanged" in text
    assert aside.name in text
    assert "Rank E" in text


def test_a_newer_record_is_left_alone_and_the_page_says_so(solo, curriculum, tmp_path):
    progress.path().write_text('{"schema": 9, "events": []}')
    text = current_page("version")
    assert "newer version" in text
    assert "Rank E" not in text
    assert progress.path().read_text() == '{"schema": 9, "events": []}'
    assert solo("dashboard", "--html", str(tmp_path / "me.html"))[0] == 2
    assert not (tmp_path / "me.html").exists()


def test_the_version_changes_with_the_record_and_what_is_set_aside(curriculum):
    seen = [version()]
    progress.append(Note(unit="phase1/lab1", text="strides"))
    seen.append(version())
    progress.path().with_name("progress.json.20260101-000000-backup").write_text("{")
    seen.append(version())
    assert len(set(seen)) == 3
    assert version() == seen[-1]
