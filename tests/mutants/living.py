"""Planted bugs of living together: processes, threads, forks, other SQLites, the file.

Promise 7, and the cases of files and of the life of a process.
"""

from __future__ import annotations

from mutant import mutant

LEAD, RING, WATCH = "csrc/lead.c", "csrc/ring.c", "csrc/watch.c"
FILES, ENGINE, OWNER = "csrc/files.c", "csrc/engine.c", "csrc/owner.c"
NAMES = "csrc/names.c"
WAITING, KILLS = "test_waiting.py", "test_kills.py"
OTHER_SQLITE = "test_files.py::test_another_sqlite_on_the_live_file"

MUTANTS = [
    mutant(
        "There is no fence",
        "1, CASE 12",
        "test_replaced.py::test_a_new_file_at_the_same_place_is_used_after_reopening",
        (LEAD, "    return fence_check(e);", "    (void)fence_check;\n    return 0;"),
    ),
    mutant(
        "The fence looks at the -wal alone",
        "1, CASE 12",
        "test_replaced.py::test_a_file_that_was_replaced",
        (
            LEAD,
            "    if (!moved && !wal_file_gone(e->wal_fd)) return 0;",
            "    if (!wal_file_gone(e->wal_fd)) return 0;",
        ),
    ),
    mutant(
        "The fence believes that no name ever changes",
        "1, CASE 12",
        "test_replaced.py::test_a_file_that_was_replaced",
        (NAMES, "    int kept = moment == since;", "    int kept = since > 0;"),
    ),
    mutant(
        "The fence watches no folders",
        "1, CASE 12",
        "test_moved_folders.py::test_a_folder_is_moved",
        (NAMES, "if (!watch(name, IN_MOVE_SELF)) return 0;", "(void)0;"),
    ),
    mutant(
        "The fence takes a folder that became a link for what it was",
        "1, CASE 12",
        "test_moved_folders.py::test_a_folder_becomes_a_link",
        (NAMES, " && !strcmp(real, path);", ";"),
    ),
    mutant(
        "The fence does not see what is mounted over the file",
        "1, CASE 12",
        "test_moved_folders.py::test_a_mount_over_the_folder",
        (NAMES, "poll(two, 2, 0) != 0)", "poll(two, 1, 0) != 0)"),
    ),
    mutant(
        "There is no gate",
        "7, CASE 58",
        "test_fairness.py::test_no_process_starves[normal]",
        (
            FILES,
            "    if (errno == EWOULDBLOCK) return 0;",
            "    if (errno == EWOULDBLOCK) return 1;",
        ),
        tries=3,
    ),
    mutant(
        "close() waits for a keeper that waits in the gate",
        "CASE 32",
        "test_stopped.py::test_close",
        ("csrc/attach.c", " && !ATOMIC_LOAD(&e->keeper_waits);", ";"),
    ),
    mutant(
        "A fork waits for a keeper that waits in the gate",
        "7, CASE 30",
        "test_stopped.py::test_fork",
        (LEAD, "if (wait) ATOMIC_STORE(&e->keeper_waits, 1);", ""),
    ),
    mutant(
        "There is no guard",
        "1, CASE 28",
        f"{OTHER_SQLITE}[apsw]",
        (
            FILES,
            "lock_shared(g->fd, SHARED_FIRST, SHARED_SIZE); tries++",
            "tries < 0; tries++",
        ),
    ),
    mutant(
        "The guard is gone after a plain open().read()",
        "1, CASE 28",
        f"{OTHER_SQLITE}[plain read and another process]",
        (
            FILES,
            "(fd, F_OFD_SETLK, F_RDLCK, start",
            "(fd, start < LIFE_BASE ? F_SETLK : F_OFD_SETLK, F_RDLCK, start",
        ),
    ),
    mutant(
        "Memory is trusted after another process wrote",
        "7",
        "contract/test_sending.py::test_two_processes_share_a_queue[core]",
        (
            LEAD,
            "    if (memcmp(&now, &e->left, sizeof now) != 0) e->epoch++;",
            "    (void)now;",
        ),
    ),
    mutant(
        "A commit wakes the wrong class of channels",
        "7",
        f"{WAITING}::test_a_commit_of_another_process_wakes_at_once",
        (
            LEAD,
            "    wal_wake(&e->wal, bits);",
            "    wal_wake(&e->wal, bits << 1 | bits >> 31);",
        ),
    ),
    mutant(
        "A commit wakes no other process",
        "7",
        f"{WAITING}::test_a_commit_of_another_process_wakes_at_once",
        (LEAD, "    wal_wake(&e->wal, bits);\n", ""),
    ),
    mutant(
        "A send serves the waiting claims of other channels",
        "7",
        f"{WAITING}::test_auto_ack_waits_at_full[receive]",
        (
            "csrc/store.h",
            "    e->wake_bits |= wake_bit(c->id);",
            "    e->wake_bits |= wake_bit(c->id + 1);",
        ),
    ),
    mutant(
        "Nobody watches when the one who did is closed",
        "7, CASE 32",
        "test_closing.py::test_a_receiver_is_woken_after_another_broker_closed",
        (
            RING,
            "    if (watches || told_to) watch_leave(e, op);",
            "    if (watches) watch_leave(e, op);",
        ),
    ),
    mutant(
        "Threads look again and again instead of sleeping",
        "7",
        f"{WAITING}::test_waiting_costs_nothing",
        (
            "csrc/futex.c",
            "    return wait_on(word, FUTEX_WAIT_BITSET, value, bits, timeout_us);",
            "    return *word != value || !bits || !timeout_us ? 0 : 0;",
        ),
    ),
    mutant(
        "The keeper looks again and again instead of sleeping",
        "7",
        f"{WAITING}::test_waiting_costs_nothing",
        (
            "csrc/keeper.c",
            "        futex_wait(&e->keeper_word, word, sleep_us > 0 ? sleep_us : 0);",
            "        futex_wait(&e->keeper_word, word + 1, 0);",
        ),
    ),
    mutant(
        "A process has no sign of life",
        "7, CASE 17",
        f"{KILLS}::test_a_death_is_believed_at_the_second_look",
        (
            FILES,
            "    if (lock_shared(fd, LIFE_BASE + slot, 1))",
            "    if (slot < 0 && lock_shared(fd, LIFE_BASE + slot, 1))",
        ),
    ),
    mutant(
        "A death is believed at the first look",
        "7, CASE 17",
        f"{KILLS}::test_a_death_is_believed_at_the_second_look",
        (OWNER, "#define ABSENT_US 500000", "#define ABSENT_US 0"),
    ),
    mutant(
        "Nobody looks for the dead",
        "7, CASE 17",
        f"{KILLS}::test_the_dead_are_noticed_without_anybody_waiting",
        ("csrc/keeper.c", "    owners_look(e);\n", ""),
    ),
    mutant(
        "The engine does not rest for a fork",
        "1, CASE 30",
        "test_forking.py::test_a_fork_inside_a_loop[continue]",
        (
            ENGINE,
            "if (e->attached && engine_quiesce(e, FORK_WAIT_US)) engine_rest",
            "if (e->attached && !engine_quiesce(e, FORK_WAIT_US)) engine_rest",
        ),
    ),
    mutant(
        "A forked child hands out what its parent had claimed ahead",
        "2, CASE 30",
        "test_forking.py::test_a_fork_inside_a_loop[continue]",
        (ENGINE, "    consumers_forget(e);\n", ""),
    ),
    mutant(
        "A receiver that waited during a fork watches no more",
        "7, CASE 30",
        "test_forking.py::test_a_blocked_receiver_after_a_fork",
        (
            "csrc/attach.c",
            """\
        ATOMIC_STORE(&op->word, (uint32_t)WORD_WATCH);
        futex_wake(&op->word, 1);
""",
            "        (void)op;\n",
        ),
    ),
    mutant(
        "Two spellings of a path are two engines",
        "7, CASE 10",
        "test_files.py::test_two_spellings_are_one_engine",
        (
            ENGINE,
            "        if (e->guard == guard && !e->failed) return e;",
            "        if (e->guard == guard && e->failed > 0) return e;",
        ),
    ),
    mutant(
        "The file is made for all to read",
        "CASE 11",
        "test_paths.py::test_the_files_are_their_owners_alone",
        (FILES, "        if (fchmod(fd, 0600) ||", "        if (fchmod(fd, 0644) ||"),
    ),
    mutant(
        "A hard link is opened",
        "CASE 9",
        "test_paths.py::test_symbolic_and_hard_links",
        (FILES, "    if (s->st_nlink > 1)\n", "    if (s->st_nlink > 99)\n"),
    ),
    mutant(
        "A file that is no database is written to",
        "CASE 1",
        "test_files.py::test_what_is_no_database_stays_as_it_is",
        (
            FILES,
            "    if (size == 0) return 0; /* a new file */\n",
            """\
    if (size == 0) return 0;
    if (memcmp(header, "SQLite", 6)) return truncate(path, 0);
""",
        ),
    ),
    mutant(
        "A newer schema is taken for ours",
        "CASE 3",
        "test_foreign.py::test_a_schema_of_a_later_version",
        (
            "csrc/schema.c",
            "    if (version > EMBQ_SCHEMA_VERSION)\n",
            "    if (version > EMBQ_SCHEMA_VERSION + 1000)\n",
        ),
    ),
    mutant(
        "A call that waits for a foreign writer has no time limit",
        "7, CASE 26",
        "test_foreign.py::test_a_foreign_writer_that_holds_the_lock",
        (
            "csrc/calls.c",
            "    return clock_real_us() + ms * 1000;",
            "    return ms < 0 ? 0 : -1;",
        ),
        hangs=True,
    ),
    mutant(
        "A signal does not end a wait",
        "CASE 35",
        "test_signals.py::test_waiting_for_messages[2]",
        (
            "csrc/wait.c",
            "    } else if (why == EINTR && op->word == WORD_WAIT) {",
            "    } else if (why == EINTR && op->word == WORD_DONE) {",
        ),
        hangs=True,
    ),
    mutant(
        "A check of a large file cannot be interrupted",
        "CASE 35",
        "test_interrupted.py::test_a_signal_while_it_reads_all[check]",
        (
            "embq/_reading.py",
            "self.connection.set_progress_handler(ticks.__next__, _TICK_OPS)",
            "pass",
        ),
    ),
    mutant(
        "Opening behind a foreign writer cannot be interrupted",
        "CASE 35",
        "test_interrupted.py::test_opening_behind_a_foreign_writer[closed-2]",
        (
            "csrc/attach.c",
            "int may_hurry = kind == OP_RECOVER || e->opening;",
            "int may_hurry = kind == OP_RECOVER;",
        ),
        hangs=True,
    ),
    mutant(
        "close() leaves receivers waiting",
        "CASE 32",
        "test_closing.py::test_close_wakes_blocked_receivers[receive]",
        (
            RING,
            "    list_fail(e, &e->parked, b, code, staged);\n",
            "",
        ),
    ),
    mutant(
        "A closed caller takes the lead with it",
        "7, CASE 32",
        "test_c.py::test_c[test_threads-asan]",
        (RING, "        if (op->word == WORD_LEAD) e->leading = 0;\n", ""),
        tries=3,
    ),
    mutant(
        "A wait that close() ends looks like one in which nothing came",
        "CASE 32",
        "test_c.py::test_c[test_threads-asan]",
        (RING, "    if (may_wait && op->broker->closed)\n", "    if (0)\n"),
        tries=3,
    ),
    mutant(
        "A field is read beside its writer",
        "7",
        "test_c.py::test_c[test_threads-tsan]",
        (
            WATCH,
            "most = ATOMIC_LOAD(&op->next_due_us) - start;",
            "most = op->next_due_us - start;",
        ),
        tries=3,
    ),
    mutant(
        "What a fork's other handlers free is freed in its middle",
        "7, CASE 30",
        "test_forking.py::test_what_other_handlers_of_a_fork_free[after_in_child]",
        ("csrc/engine.c", "    if (!forking) return 0;", "    if (ref) return 0;"),
        hangs=True,
    ),
    mutant(
        "A child that was forked in the middle of a write opens the file again",
        "7, CASE 31",
        "test_faults.py::test_a_fork_that_cannot_wait",
        ("csrc/engine.c", "        forked_in_use = 1;\n", ""),
    ),
]
