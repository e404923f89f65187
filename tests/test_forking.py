"""os.fork() in a process with an open broker: neither side harms the other."""

from pathlib import Path

import pytest
from conftest import Children

HEAD = """
    import os, sqlite3, sys, threading, time, traceback
    import embq
    from embq import errors

    path = sys.argv[1]
    broker = embq.open(path, durability="normal")
    queue = broker.queue("q")

    def join(pid):
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    def fork(work=lambda: None):
        pid = os.fork()
        if pid:
            return join(pid)
        try:
            work()
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
"""
SENDER = """
    import sys, embq
    embq.open(sys.argv[1], durability="normal").queue("q").send("from afar")
"""
DEADLOCK_S = 20.0  # such a script takes a second; one that takes so long is stuck


def run(children: Children, code: str, path: Path) -> list[str]:
    """Run it after HEAD in a child process; give the lines that it printed."""
    return children.run(HEAD + code, path, timeout=DEADLOCK_S).splitlines()


def test_a_blocked_receiver_after_a_fork(children: Children, path: Path) -> None:
    """A receiver that was blocked during a fork still sees another process's send."""
    code = """
    receive = lambda: found.append((queue.receive(wait=15), time.monotonic()))
    found, thread = [], threading.Thread(target=receive)
    thread.start()
    time.sleep(0.4)
    fork()
    print("forked", flush=True)
    sys.stdin.readline()
    begun = time.monotonic()
    thread.join()
    (message, at), = found
    assert message.data == "from afar", message
    message.ack()
    assert at - begun < 5, at - begun
    """
    receiver = children.start(HEAD + code, path)
    children.expect(receiver, "forked")
    children.run(SENDER, path)
    children.tell(receiver)
    children.finish(receiver, DEADLOCK_S)


def test_a_blocked_sender_across_a_fork(children: Children, path: Path) -> None:
    """CASE 30: a send that waits for room is the parent's, and is stored once there.

    The child makes the room; a send of its own that waits has its own place.
    """
    code = """
    bounded = broker.queue("bounded", max_messages=1, overflow="block")
    bounded.send("first")
    thread = threading.Thread(target=lambda: bounded.send("waited", timeout=15))
    thread.start()
    time.sleep(0.2)

    def work():
        try:
            bounded.send("refused", timeout=0.2)
        except errors.QueueFull:
            print("child: full")
        bounded.receive().ack()

    fork(work)
    thread.join(5)
    assert not thread.is_alive(), "the sender was not woken"
    print(bounded.receive(auto_ack=True).data, bounded.depth())
    """
    assert run(children, code, path) == ["child: full", "waited 0"]


@pytest.mark.parametrize("call", ["depth", "stats"])
def test_a_fork_beside_readers(children: Children, path: Path, call: str) -> None:
    """Forks beside threads that read the counters leave no lock behind."""
    code = f"""
    queue.send(1)
    stop = threading.Event()

    def read():
        while not stop.is_set():
            queue.{call}()

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(60):
        fork()
    stop.set()
    for thread in threads:
        thread.join()
    print(queue.depth())
    """
    assert run(children, code, path) == ["1"]


def test_a_fork_beside_send_nowait(children: Children, path: Path) -> None:
    """CASE 31: forks beside a thread that stages messages: all of them are stored."""
    code = """
    stop = threading.Event()
    sent = 0

    def stage():
        global sent
        while not stop.is_set():
            try:
                queue.send_nowait(sent)
                sent += 1
            except errors.Full:
                time.sleep(0.001)

    thread = threading.Thread(target=stage)
    thread.start()
    for _ in range(40):
        fork()
    stop.set()
    thread.join()
    broker.flush()
    assert sent and queue.depth() == sent, (sent, queue.depth())
    print("stored")
    """
    assert run(children, code, path) == ["stored"]


@pytest.mark.parametrize("leave", ["continue", "break"])
def test_a_fork_inside_a_loop(children: Children, path: Path, leave: str) -> None:
    """What was claimed ahead stays the parent's; a child may claim its own."""
    code = f"""
    queue.send_many(list(range(8)))
    taken, pid = [], None
    for message in queue.messages(prefetch=8, wait=0.3):
        if pid is None:
            ahead = queue.stats()["in_flight"]
            pid = os.fork()
            if pid == 0:
                {leave}  # this message is the parent's, too
            time.sleep(0.3)
        assert message.receive_count == 1
        taken.append(message.data)
        message.ack()
    if pid:
        join(pid)
    print(ahead, *taken, flush=True)
    broker.close()
    os._exit(0)
    """
    child, parent = run(children, code, path)
    ahead, *child_took = map(int, child.split())
    _, *parent_took = map(int, parent.split())
    assert ahead > 1
    assert parent_took[:ahead] == list(range(ahead))
    assert sorted(child_took + parent_took) == list(range(8))
    assert leave == "continue" or not child_took


def test_a_ticket_after_a_fork(children: Children, path: Path) -> None:
    """A ticket of before a fork resolves in the parent; the child is sent there."""
    code = """
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("begin immediate")
    ticket = queue.send_nowait(1)

    def ask():
        begun = time.monotonic()
        try:
            print("child:", ticket.result(15))
        except errors.Closed as error:
            fits = "in the parent" in error.hint
            print("child: Closed", fits, time.monotonic() - begun < 5)

    fork(ask)
    other.execute("rollback")
    ticket.result(10)
    print("parent: stored", queue.depth())
    """
    said = ["child: Closed True True", "parent: stored 1"]
    assert run(children, code, path) == said


def test_both_sides_go_on(children: Children, path: Path) -> None:
    """CASE 30: after a fork the child opens the file, and the parent goes on."""
    code = """
    queue.send("before")
    held = queue.receive()
    queue.send("for the child")

    def work():
        mine = embq.open(path, durability="normal")
        other = mine.queue("q")
        message = other.receive(wait=5)
        print("child:", message.data)
        message.ack()
        other.send("from the child")
        mine.close()

    fork(work)
    held.ack()
    message = queue.receive(wait=5)
    print("parent:", message.data)
    message.ack()
    queue.send("after")
    print(queue.receive().data, queue.depth())
    """
    lines = ["child: for the child", "parent: from the child", "after 1"]
    assert run(children, code, path) == lines


def test_a_close_in_the_middle_of_a_fork(children: Children, path: Path) -> None:
    """`close()` stores what is staged, also while another thread is forking."""
    code = """
    import os, sys, threading, time

    forking, closing = threading.Event(), threading.Event()

    def pause():  # registered first, so it comes when embq is ready for the fork
        forking.set()
        closing.wait(10)
        time.sleep(0.2)

    os.register_at_fork(before=pause)
    import embq

    broker = embq.open(sys.argv[1], durability="normal")
    queue = broker.queue("q")

    def stage_and_close():
        forking.wait(10)
        for number in range(100):
            queue.send_nowait(number)
        closing.set()
        broker.close()

    thread = threading.Thread(target=stage_and_close)
    thread.start()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    thread.join()
    print(embq.open(sys.argv[1]).queue("q").depth())
    """
    assert children.run(code, path, timeout=DEADLOCK_S).split() == ["100"]


@pytest.mark.parametrize("when", ["before", "after_in_parent", "after_in_child"])
def test_what_other_handlers_of_a_fork_free(
    children: Children, path: Path, when: str
) -> None:
    """A broker, a loop and a ticket that end in the middle of a fork end after it."""
    answer = children.run(
        f"""
        import os, sys
        held = []
        # Registered before embq is imported, so that they run between its own.
        os.register_at_fork({when}=lambda: held.clear())
        import embq

        broker = embq.open(sys.argv[1], durability="normal")
        queue = broker.queue("q")
        queue.send_many(range(9))
        other = embq.open(sys.argv[1], durability="normal")
        held += [other, other.queue("q"), queue.send_nowait("staged")]
        loop = queue.messages(prefetch=4)
        next(loop).ack()
        held.append(loop)
        del other, loop
        pid = os.fork()
        queue.send("parent" if pid else "child")
        if not pid:
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        print(queue.depth())
        """,
        path,
        timeout=DEADLOCK_S,
    )
    assert answer.split() == ["11"]


def test_grandchildren(children: Children, path: Path) -> None:
    """CASE 30: a child of a child of a child works, and each takes its own messages."""
    code = """
    queue.send_many(list(range(40)))

    def generation(left):
        taken = []
        for message in queue.messages(prefetch=4, wait=0):
            taken.append(message.data)
            if len(taken) == 1 and left:
                fork(lambda: generation(left - 1))
            message.ack()
            if len(taken) == 5:
                break
        broker.queue("taken").send(taken)

    generation(3)
    taken = [message.data for message in broker.queue("taken").receive_many(9, wait=1)]
    assert len(taken) == 4 and all(len(some) == 5 for some in taken), taken
    assert len({one for some in taken for one in some}) == 20, taken
    assert queue.depth() == 20
    print("each its own")
    """
    assert run(children, code, path) == ["each its own"]


def test_none_of_its_threads_is_there_in_a_fork(children: Children, path: Path) -> None:
    """CASE 30: Python's warning of forks beside threads can be right about others only.

    embq's thread has ended when handlers older than embq's run, just before the fork.
    """
    code = """
    import os, sys, time
    count = lambda: len(os.listdir("/proc/self/task"))

    def look():
        end = time.monotonic() + 5
        while count() > 1 and time.monotonic() < end:
            time.sleep(0.001)  # a thread that was joined is listed a moment longer
        counts.append(count())

    counts = []
    os.register_at_fork(before=look)
    import embq
    with embq.open(sys.argv[1]) as broker:
        broker.queue("q").send_nowait("staged")
        counts.append(count())
        if os.fork() == 0:
            os._exit(0)
        os.wait()
        print(counts)
    """
    assert children.run(code, path, timeout=DEADLOCK_S) == "[2, 1]\n"
