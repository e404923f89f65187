"""Planted bugs of what looks at a whole file, or copies it: `check` and `backup`."""

from __future__ import annotations

from mutant import mutant

BACKUP = "embq/_backup.py"
READING, RULES = "embq/_reading.py", "embq/_rules.py"

MUTANTS = [
    mutant(
        "A check counts no messages",
        "8",
        "test_check.py::test_a_planted_problem_is_found[message_count]",
        (RULES, "where counted <> number", "where counted < 0 and number < 0"),
    ),
    mutant(
        "A check takes for lost what a run holds",
        "8",
        "test_check.py::test_a_healthy_file",
        (RULES, "d.message is null and m.due_at_ms is null", "0"),
    ),
    mutant(
        "A connection of a check crosses a fork",
        "7, CASE 30",
        "test_check.py::test_a_fork_ends_it",
        (
            READING,
            "        for one in others:\n            one.stop()\n",
            "        return\n",
        ),
    ),
    mutant(
        "A backup replaces a file that came meanwhile",
        "8",
        "test_backup.py::test_a_name_that_came_meanwhile",
        (BACKUP, "os.link(part, target)", "os.rename(part, target)"),
    ),
    mutant(
        "A copy says under which boot and inode its original was opened",
        "4, CASE 14",
        "test_backup.py::test_a_copy_at_the_inode_of_its_original",
        (BACKUP, "        copy.execute(_FORGET_OPENING).fetchall()\n", ""),
    ),
    mutant(
        "A backup has its name before it is made",
        "1, CASE 14",
        "test_backup.py::test_killed_at_every_call",
        (
            BACKUP,
            "    try:\n        _copy(path",
            "    os.link(part, target)\n    try:\n        _copy(path",
        ),
        (BACKUP, "            os.link(part, target)  #", "            pass  #"),
    ),
    mutant(
        "A backup begins anew at each write of another process, and has holes of them",
        "1, CASE 14",
        "test_backup.py::test_in_one_transaction",
        (
            READING,
            'self._lock("begin immediate" if self._writes else "begin")',
            "pass",
        ),
    ),
]
