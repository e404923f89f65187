"""Planted bugs of the bounds of a queue."""

from __future__ import annotations

from mutant import mutant

OVERFLOW, MESSAGE, SEND = "csrc/overflow.c", "csrc/message.c", "csrc/send.c"
CONTRACT = "contract/test_overflow.py"

MUTANTS = [
    mutant(
        "What makes way is the newest of the lanes",
        "2",
        f"{CONTRACT}::test_the_oldest_make_way[core-drop_oldest]",
        (
            OVERFLOW,
            "message_sequence(o->next[lane]) < message_sequence(o->next[first])",
            "message_sequence(o->next[lane]) > message_sequence(o->next[first])",
        ),
    ),
    mutant(
        "What failed or is due later never makes way",
        "2",
        f"{CONTRACT}::test_every_state_makes_way[core-drop_oldest]",
        (OVERFLOW, "else if (c->sub.waiting && after < cursor)", "else if (0)"),
    ),
    mutant(
        "Messages go for a send that is refused all the same",
        "2",
        f"{CONTRACT}::test_bytes_make_way[core-drop_oldest]",
        (OVERFLOW, "    if (!c->options.max_bytes) return 1;", "    return 1;"),
    ),
    mutant(
        "Acks of the same group make no room for bytes",
        "2",
        f"{CONTRACT}::test_acks_of_the_same_group_make_room[core]",
        (
            OVERFLOW,
            "    if (runs_flush(e) < 0 || leases_expire(e) < 0) return -1;",
            "    if (leases_expire(e) < 0) return -1;",
        ),
        (
            OVERFLOW,
            "    return timers_expire(e) < 0 || runs_flush(e) < 0 ? -1 : 0;",
            "    return timers_expire(e) < 0 ? -1 : 0;",
        ),
    ),
    mutant(
        "What perished holds its place until somebody receives",
        "2",
        f"{CONTRACT}::test_what_perished_makes_room[core-reject]",
        (OVERFLOW, "return timers_expire(e) < 0 ||", "return"),
    ),
    mutant(
        "The dead-letter queue gets the bounds of the queue",
        "2",
        f"{CONTRACT}::test_the_dead_letter_queue_has_no_bound[core]",
        (MESSAGE, "        o.max_messages = o.max_bytes = 0;\n", ""),
        (MESSAGE, "        o.overflow = OVERFLOW_BLOCK;\n", ""),
    ),
    mutant(
        "Each of one dedup id in a batch needs room",
        "2",
        f"{CONTRACT}::test_a_dedup_id_twice_in_a_batch[core-reject]",
        (SEND, "        if (!fresh) return 0;", "        if (known) return 0;"),
    ),
    mutant(
        "A message more than the bound is stored",
        "2",
        "test_bounds.py::test_threads_never_store_more",
        (OVERFLOW, "stored <= most - more)", "stored <= most - more + 1)"),
    ),
    mutant(
        "What a dead reader held takes its place for good",
        "2, CASE 57",
        "test_unread.py::test_a_full_queue_whose_reader_died[drop_oldest-max_messages]",
        (OVERFLOW, "else if (c->sub.waiting && after < cursor)", "else if (0)"),
    ),
    mutant(
        "What somebody holds makes way",
        "2, CASE 57",
        "test_unread.py::test_a_full_queue_whose_reader_died[dead_letter-max_messages]",
        (
            OVERFLOW,
            "    if (!within(c->sub.in_flight, more.messages,",
            "    if (0 * !within(0, more.messages,",
        ),
    ),
]
