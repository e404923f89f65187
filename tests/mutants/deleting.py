"""Planted bugs of deleting a queue. Promises 2 and 4."""

from __future__ import annotations

from mutant import mutant

DELETE, CHANNEL, STATEMENT = "csrc/delete.c", "csrc/channel.c", "csrc/statement.c"
CONTRACT, BESIDE = "contract/test_delete.py", "test_deleting.py"
AFTER = f"{CONTRACT}::test_calls_after_a_delete"

MUTANTS = [
    mutant(
        "A queue that was deleted means the one that uses its number again",
        "4",
        f"{AFTER}[core-here-another-send]",
        (
            STATEMENT,
            '"set kind = 1, name = ?2, generation = generation + 1,\\n"',
            '"set kind = 1, name = ?2,\\n"',
        ),
    ),
    mutant(
        "A channel that is used again gives out its numbers from 1",
        "2",
        f"{CONTRACT}::test_a_new_queue_of_the_name[core]",
        (
            CHANNEL,
            "    memcpy(c->sub.cursor, before.cursor, sizeof before.cursor);",
            "    c->next_sequence = 1 + 0 * before.cursor[0];",
        ),
    ),
    mutant(
        "A delete ends after its first step",
        "2",
        f"{BESIDE}::test_killed_at_every_call[prepare-normal]",
        (DELETE, "op_stepped(e, op, more);", "op_stepped(e, op, 0);"),
        ("csrc/keeper.c", "    deletes_look(e);\n", ""),
    ),
    mutant(
        "Nobody finishes what a killed process left of a delete",
        "2",
        f"{BESIDE}::test_killed_at_every_call[prepare-normal]",
        ("csrc/keeper.c", "    deletes_look(e);\n", ""),
    ),
    mutant(
        "A channel is free while some of its runs are left",
        "2",
        f"{BESIDE}::test_killed_at_every_call[prepare-normal]",
        (
            DELETE,
            "    if (count == 0) count = runs_delete(e, op, c, &more);\n",
            "    if (count < 0) count = runs_delete(e, op, c, &more);\n",
        ),
    ),
    mutant(
        "What was deleted becomes a dead letter when its lease ends",
        "2",
        f"{BESIDE}::test_a_lease_that_ends_in_the_middle[prepare]",
        (
            STATEMENT,
            '"set kind = 0, name = null, dead_letter = null\\n"',
            '"set kind = 0, name = null\\n"',
        ),
    ),
    mutant(
        "Dedup ids outlive their queue",
        "1",
        f"{CONTRACT}::test_a_new_queue_of_the_name[core]",
        (
            DELETE,
            "    if (count == 0 && !more) count = dedup_delete(e, c);",
            "    if (count < 0 && !more) count = dedup_delete(e, c);",
        ),
    ),
    mutant(
        "Steps keep other processes out",
        "7",
        f"{BESIDE}::test_others_come_between_two_steps",
        ("csrc/lead.c", "    if (pause_us) usleep((useconds_t)pause_us);\n", ""),
        tries=3,
    ),
    mutant(
        "Who waits for messages of a queue that is deleted is not told",
        "7",
        f"{BESIDE}::test_who_waits_in_this_process_is_told[receive]",
        (DELETE, "    e->wake_bits = UINT32_MAX;\n", ""),
    ),
    mutant(
        "The numbers of queues that are gone are used up",
        "CASE 52",
        "test_churn.py::test_queues_that_come_and_go",
        (
            STATEMENT,
            '"where kind <> 1 and kind = 2\\n"',
            '"where kind <> 1 and kind = 3\\n"',
        ),
    ),
]
