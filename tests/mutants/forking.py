"""Planted bugs of forks: whose connections, locks and staged messages they are.

Promises 1 and 2, and the cases 30 to 31b. Those of an engine at rest are in living.py.
"""

from __future__ import annotations

from mutant import mutant

ENGINE, FORKED, CONNECTION = "csrc/engine.c", "csrc/forked.c", "csrc/connection.c"
FILE, READING, CHECK = "embq/_file.py", "embq/_reading.py", "embq/_check.py"
TEST, BESIDE = "test_forked.py", "test_forking_beside.py::test_a_fork_beside_upkeep"
WORKERS = "test_multiprocessing.py"

MUTANTS = [
    mutant(
        "A child takes the lock that SQLite believes in for one",
        "1, CASE 31b",
        f"{TEST}::test_an_own_connection_across_a_fork[idle]",
        (CONNECTION, "    if (!process_is_forked()) return 0;", "    return 0;"),
    ),
    mutant(
        "Only a fork that embq saw is one",
        "1, CASE 31b",
        f"{TEST}::test_a_fork_that_embq_did_not_see[a file of embq]",
        (FORKED, "           (flags & FLAG_FORKED);", "           !flags;"),
    ),
    mutant(
        "Locks are asked about after the tables were made",
        "1, CASE 31b",
        f"{TEST}::test_a_fork_that_embq_did_not_see[a new file]",
        (
            "csrc/schema.c",
            """\
        int code = locks_check(e->db, e->guard, e->path);
        if (code == 0) code = schema_check(e);
""",
            """\
        int code = schema_check(e);
        if (code == 0) code = locks_check(e->db, e->guard, e->path);
""",
        ),
    ),
    mutant(
        "The lock of any process is taken for the child's",
        "1, CASE 31b",
        f"{TEST}::test_other_processes_on_the_file",
        (
            FORKED,
            "    descriptors_read(g, &seen);\n",
            """\
    descriptors_read(g, &seen);
    struct flock lock = {
        .l_type = F_WRLCK, .l_start = SHARED_FIRST, .l_len = SHARED_SIZE};
    seen.held = !fcntl(g->fd, F_OFD_GETLK, &lock) && lock.l_type != F_UNLCK;
""",
        ),
    ),
    mutant(
        "A descriptor on the file is enough for Forked",
        "8, CASE 31b",
        f"{TEST}::test_a_connection_that_does_no_harm",
        (FORKED, "    if (seen.held) return 0;\n", ""),
    ),
    mutant(
        "A check in a child reads without the core",
        "1, CASE 31b",
        f"{TEST}::test_every_first_use_is_told",
        (
            "embq/_upkeep.py",
            "            self._attach()\n        except Corrupt",
            "            self._file.open()\n        except Corrupt",
        ),
    ),
    mutant(
        "A fork that Python did not make is none",
        "1, CASE 30",
        f"{TEST}::test_a_fork_that_python_did_not_make",
        (ENGINE, "    if (forking) return;\n", "    if (!forking) return;\n"),
        hangs=True,
    ),
    mutant(
        "Brokers of other files use SQLite in a child whose parent was in it",
        "7, CASE 31",
        "test_faults.py::test_a_fork_that_cannot_wait",
        (
            ENGINE,
            "    if (forked_in_use) return in_use_error(e->path);\n",
            "",
        ),
    ),
    mutant(
        "A worker of multiprocessing drops what it staged",
        "1, CASE 33",
        f"{WORKERS}::test_what_a_worker_staged[fork-opened]",
        (FILE, "                _watch_worker()\n", ""),
    ),
    mutant(
        "A worker drops what it staged with its parent's broker",
        "1, CASE 33",
        f"{WORKERS}::test_what_a_worker_staged[fork-inherited]",
        (FILE, "        if util is not None:\n", "        if util is None:\n"),
    ),
    mutant(
        "A child waits for ever for a mutex of SQLite's",
        "7, CASE 31",
        f"{TEST}::test_a_fork_while_another_thread_is_in_sqlite",
        (
            CONNECTION,
            "    int code = process_is_forked() ? mutexes_are_free(e->path) : 0;\n",
            "    int code = 0;\n",
        ),
        hangs=True,
        tries=3,
    ),
    mutant(
        "A fork comes while a thread makes the tables of a new file",
        "7, CASE 31",
        "test_forking_beside.py::test_a_fork_waits_for_what_is_short[0.3]",
        (READING, "        waits = any(", "        waits = False and any("),
    ),
    mutant(
        "What a fork interrupts is a damaged file",
        "8, CASE 30",
        "test_check.py::test_a_fork_in_sqlites_own_part",
        (
            CHECK,
            "        reading.go_on()  # a fork that interrupted it is no damage\n",
            "",
        ),
    ),
    mutant(
        "A fork does not wait for a backup",
        "7, CASE 31",
        f"{BESIDE}[backup]",
        (
            READING,
            "        if not others and not waits:\n",
            "        if others or not waits:\n",
        ),
        hangs=True,
        tries=3,
    ),
    mutant(
        "A ticket of before a fork says that the file is to be opened",
        "CASE 30",
        "test_forking.py::test_a_ticket_after_a_fork",
        (
            "embq/_native.py",
            "        return errors.Closed(error_text(), hint)\n",
            "        return errors.Closed(error_text())\n",
        ),
    ),
]
