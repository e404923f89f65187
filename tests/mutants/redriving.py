"""Planted bugs of redrive: promises 2, 6 and 7, and what its task says."""

from __future__ import annotations

from mutant import mutant

REDRIVE, MESSAGE = "csrc/redrive.c", "csrc/message.c"
ADMIN, STATEMENT, KEEPER = "csrc/admin.c", "csrc/statement.c", "csrc/keeper.c"
CONTRACT, TASKS = "contract/test_redrive.py", "test_redriving.py"

MUTANTS = [
    mutant(
        "What is in flight is moved from under its holder",
        "4",
        f"{CONTRACT}::test_all_that_nobody_holds[core]",
        (REDRIVE, "    if (found > 0 && d.owner) return 0;\n", ""),
    ),
    mutant(
        "A redrive writes another entry into the history",
        "2",
        f"{CONTRACT}::test_it_goes_back[core]",
        (MESSAGE, "2, b ? c->name : NULL, -1", "2, c->name, -1"),
    ),
    mutant(
        "A redriven message has no ttl",
        "2",
        f"{CONTRACT}::test_the_ttl_of_where_it_goes[core]",
        (MESSAGE, "b || !to->options.ttl_ms ? 0", "1 ? 0"),
    ),
    mutant(
        "What was sent since the redrive began goes along for ever",
        "2",
        f"{TASKS}::test_what_comes_later_stays",
        (
            REDRIVE,
            "t->c->id, lane, t->below - 1)",
            "t->c->id, lane, t->c->next_sequence)",
        ),
    ),
    mutant(
        "A redrive begins anew at each step",
        "2",
        f"{CONTRACT}::test_what_stays_is_passed_once[core]",
        (
            REDRIVE,
            "    sq.bind_int64(s, 3, t->position);",
            "    sq.bind_int64(s, 3, message_id(channel, 0, 0));",
        ),
    ),
    mutant(
        "A message whose body is of another codec is moved",
        "2",
        f"{CONTRACT}::test_another_codec[core]",
        (
            REDRIVE,
            "!strcmp(to->options.codec, t->c->options.codec) ? id : 0",
            "1 ? id : 0",
        ),
    ),
    mutant(
        "The condition on the queue is not asked",
        "2",
        f"{CONTRACT}::test_where[core-where3-wanted3]",
        (
            STATEMENT,
            "    where r.channel = ?3 and not exists (\\n",
            "    where r.channel = ?3 and f.key <> 'queue' and not exists (\\n",
        ),
    ),
    mutant(
        "The queue that a message died in first is its home",
        "2",
        f"{CONTRACT}::test_of_the_dead_of_the_dead[core]",
        (STATEMENT, "   order by h.key desc\\n", "   order by h.key\\n"),
    ),
    mutant(
        "A message that came back is not found by its id",
        "2",
        f"{CONTRACT}::test_cancel_what_came_back[core]",
        (
            ADMIN,
            "INTS(row), 0)) return row;",
            "INTS(row), 0) + 1) return row;",
        ),
    ),
    mutant(
        "A rate is obeyed at each look, not over time",
        "7",
        f"{TASKS}::test_no_more_than_the_rate[core]",
        (REDRIVE, "(double)(t.moved - before) * 1000 / t.rate", "0 * t.rate"),
    ),
    mutant(
        "After a pause all that was missed goes at once",
        "7",
        f"{TASKS}::test_a_late_start_is_no_flood[core]",
        (REDRIVE, "    if (since < now_ms - arrears) since = now_ms - arrears;\n", ""),
    ),
    mutant(
        "A redrive with a rate holds up the others",
        "7",
        f"{TASKS}::test_of_several_queues_at_once",
        (
            STATEMENT,
            '''"  and (next_at_ms <= ?2\\n"
                        "    or next_at_ms > ?2 + coalesce(1000 / rate, 0))\\n"
                        "order by next_at_ms\\n"''',
            '''"  and ?2 > 0\\n"
                        "order by next_at_ms desc\\n"''',
        ),
    ),
    mutant(
        "Nobody goes on with the redrive of a dead process",
        "2",
        f"{TASKS}::test_another_process_goes_on",
        (
            STATEMENT,
            '''"    or owner not in (select slot from embq_owner))\\n"''',
            '''"    or owner is null)\\n"''',
        ),
    ),
    mutant(
        "A redrive is not gone on with once its caller has begun it",
        "2",
        f"{TASKS}::test_whoever_opens_the_file_goes_on",
        (KEEPER, "    redrives_look(e);\n", ""),
    ),
    mutant(
        "A keeper that found no redrive once looks for none any more",
        "2, CASE 16",
        f"{TASKS}::test_a_keeper_at_rest_goes_on",
        (
            "csrc/reading.c",
            "    if (!memcmp(&now, none, sizeof now)) return 0;",
            "    if (none->words[0]) return 0;",
        ),
    ),
]
