"""Planted bugs of what looks at a whole file, or copies it: `check` and `backup`."""

from __future__ import annotations

from mutant import mutant

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
]
