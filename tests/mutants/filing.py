"""Planted bugs of files: where they may be, what they keep, and what is wrong there."""

from __future__ import annotations

from mutant import mutant

FILES, FILESYSTEM = "csrc/files.c", "csrc/filesystem.c"
CONNECTION, TRACE, CLOCK = "csrc/connection.c", "csrc/trace.c", "csrc/clock.c"
REPAIR = "test_repair.py"
TABLES = "test_tables.py::test_what_is_not_as_it_was"
RESERVE, SPACE = "test_reserve.py", "csrc/space.c"
PLACES, TRACES = "test_filesystems.py", "test_traces.py"
SILENCE, SPACES = "test_silence.py", "test_namespaces.py"

MUTANTS = [
    mutant(
        "A file that is to be made is made anywhere",
        "CASE 15",
        f"{PLACES}::test_where_it_is_refused[NFS]",
        (FILESYSTEM, "        place = folder;\n", ""),
    ),
    mutant(
        "A file is opened before its file system is looked at",
        "CASE 15",
        f"{PLACES}::test_where_it_is_refused[CIFS]",
        (
            FILES,
            """\
    int code = flags & EMBQ_OPEN_ANYWHERE ? 0 : filesystem_check(path);
    *out = NULL;
    if (code < 0) return code;
""",
            "    int code;\n    *out = NULL;\n",
        ),
        (
            FILES,
            "    if (*out != fresh) free(fresh);\n",
            """\
    if (*out != fresh) free(fresh);
    if (code == 0 && !(flags & EMBQ_OPEN_ANYWHERE)) code = filesystem_check(path);
""",
        ),
    ),
    mutant(
        "Who was refused is let in by another's leave",
        "CASE 15",
        f"{PLACES}::test_it_may_be_allowed",
        (
            FILES,
            "flags & EMBQ_OPEN_ANYWHERE ? 0",
            "guards || flags & EMBQ_OPEN_ANYWHERE ? 0",
        ),
    ),
    mutant(
        "With secure_delete pages that are freed keep what they had",
        "CASE 60",
        f"{TRACES}::test_what_is_removed_is_gone[0]",
        (CONNECTION, '    "pragma secure_delete = on",\n', ""),
    ),
    mutant(
        "With secure_delete the -wal keeps what is beyond its new end",
        "CASE 60",
        f"{TRACES}::test_what_is_removed_is_gone[0]",
        (CONNECTION, '    "pragma journal_size_limit = 0",\n', ""),
    ),
    mutant(
        "With secure_delete the -wal is started over when it is clean, too",
        "CASE 60",
        f"{TRACES}::test_two_that_wipe_come_to_rest",
        (TRACE, "wal_frames(&e->wal) <= 1 &&", "wal_frames(&e->wal) < 1 &&"),
    ),
    mutant(
        "secure_delete of a second broker is forgotten",
        "CASE 60",
        f"{TRACES}::test_it_can_be_asked_for_later",
        (
            "csrc/attach.c",
            "ATOMIC_STORE(&e->secure, 1);",
            "ATOMIC_STORE(&e->secure, !attached);",
        ),
    ),
    mutant(
        "What is about to be sent shows its data",
        "8, CASE 60",
        f"{SILENCE}::test_no_payload_in_reprs",
        ("embq/_outgoing.py", "    def __repr__(", "    def _repr("),
    ),
    mutant(
        "An error is raised from one that holds the whole text",
        "8, CASE 60",
        f"{SILENCE}::test_an_error_shows_no_payload[BodyError-2]",
        (
            "embq/_codec.py",
            "    return None if isinstance(error, _UNICODE) else error\n",
            "    return error\n",
        ),
    ),
    mutant(
        "The offset of a time namespace is not taken off",
        "2, CASE 51",
        f"{SPACES}::test_another_boot_time",
        (CLOCK, " - ATOMIC_LOAD(&namespace_ms)", ""),
    ),
    mutant(
        "A child in another time namespace keeps the offset of its parent",
        "2, CASE 51",
        f"{SPACES}::test_who_made_the_namespace[before]",
        (
            CLOCK,
            "if (!strcmp(ours, time_namespace)) return 0;",
            "if (time_namespace[0]) return 0;",
        ),
    ),
    mutant(
        "A process takes the offset of its children for its own",
        "2, CASE 51",
        f"{SPACES}::test_who_made_the_namespace[after]",
        (CLOCK, "    if (strcmp(ours, children))\n", "    if (0)\n"),
    ),
    mutant(
        "Who is alive is told by the process id",
        "7, CASE 17",
        f"{SPACES}::test_the_same_pid_twice",
        (
            "csrc/owner.c",
            "if (slot != e->slot && life_probe(e->life_fd, slot)) return 0;",
            "if (slot != e->slot && slot == getpid()) return 0;",
        ),
        (
            "csrc/owner.c",
            "if (slot != e->slot && !life_probe(e->life_fd, slot)) slots",
            "if (slot != e->slot && slot != getpid()) slots",
        ),
    ),
    mutant(
        "The reserve is a share of a large disk too",
        "2, CASE 23",
        f"{RESERVE}::test_how_much_it_is[1099511627776-None-67108864]",
        (SPACE, "share < RESERVE_MAX ? share : RESERVE_MAX", "share"),
    ),
    mutant(
        "What open() was told of the reserve is not heard",
        "2, CASE 23",
        f"{RESERVE}::test_how_much_it_is[104857600-0-0]",
        (SPACE, "    if (b->disk_reserve >= 0) return b->disk_reserve;\n", ""),
    ),
    mutant(
        "Staged acks wait for room that they are to make",
        "2, CASE 23",
        f"{RESERVE}::test_all_but_sends_go_on",
        (
            "csrc/lead.c",
            "    case OP_SETTLE: return ",
            "    case OP_SETTLE: if (space_look(e) < 1 << 20) return -15; return ",
        ),
    ),
    mutant(
        "What the tables were is never kept",
        "CASE 5",
        "test_tables.py::test_killed_before_it_was_kept",
        ("csrc/owner.c", " || fingerprint_keep(e) < 0", ""),
    ),
    mutant(
        "A trigger on our tables is not told",
        "CASE 5",
        TABLES,
        (
            "csrc/schema.c",
            "(type = 'trigger' and tbl_name like 'embq\\\\_%' escape '\\\\')",
            "0",
        ),
    ),
    mutant(
        "Of the tables the names are compared, and not what they are",
        "CASE 5",
        TABLES,
        ("csrc/schema.c", "column < 3", "column < 2"),
    ),
    mutant(
        "A key that nobody has goes to one that another must wait for",
        "6",
        f"{REPAIR}::test_what_is_mended[stuck_key]",
        (
            "embq/_repair.py",
            "where d.key_hash is not null\n",
            "where d.due_at_ms < 0 and d.key_hash is not null\n",
        ),
    ),
    mutant(
        "A repair writes into a file with damaged pages",
        "CASE 6",
        f"{REPAIR}::test_a_damaged_file_is_left",
        ("embq/_repair.py", 'problem.code == "damaged"', 'problem.code == ""'),
    ),
    mutant(
        "The counter of messages is mended the wrong way",
        "2",
        f"{REPAIR}::test_what_is_mended[message_count]",
        (
            "embq/_repair.py",
            "select embq_state.sent - found.number",
            "select embq_state.sent + found.number",
        ),
    ),
    mutant(
        "A repair does not ask",
        "8",
        f"{REPAIR}::test_the_command",
        ("embq/_cli_file.py", "        if not yes:\n", "        if False:\n"),
    ),
    mutant(
        "Whoever forks is told what was done to the tables, in the middle of its work",
        "1",
        "test_tables.py::test_when_it_is_open_it_goes_on",
        ("csrc/schema.c", " && !e->slot", ""),
    ),
]
