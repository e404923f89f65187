"""Planted bugs of looking at messages: the order to come, states, what is not held."""

from __future__ import annotations

from mutant import mutant

PEEK, LOOK, STATEMENT = "csrc/peek.c", "csrc/look.c", "csrc/statement.c"
FACE, MESSAGES = "embq/_look.py", "embq/messages.py"
SEEN, WORDS = "contract/test_looking.py", "test_looks.py"

MUTANTS = [
    mutant(
        "A peek shows new messages before those that wait again",
        "6",
        f"{SEEN}::test_peek_is_the_order_of_receive[core]",
        (PEEK, ", every = -1;", ", every = -1;\n    new_walk(w, lane);"),
    ),
    mutant(
        "A peek leaves out suspects",
        "6",
        f"{SEEN}::test_what_waited_comes_in_the_order_of_its_times[core]",
        (STATEMENT, "and lane = ?2 and kind = 1\\n", "and lane = ?2 and kind = 7\\n"),
    ),
    mutant(
        "A peek leaves out what was sent with a delay that is over",
        "2",
        f"{SEEN}::test_what_waited_comes_in_the_order_of_its_times[core]",
        (STATEMENT, "and lane = ?2 and due_at_ms <= ?3", "and lane = ?2 and ?3 < 0"),
    ),
    mutant(
        "A peek shows what perished",
        "2",
        f"{SEEN}::test_what_perished_is_passed_over[core]",
        (PEEK, "    } else if (has_perished(w, s)) {", "    } else if (0) {"),
    ),
    mutant(
        "A peek shows what a paused queue does not hand out",
        "2",
        f"{SEEN}::test_nothing_comes_from_a_paused_queue[core]",
        (
            PEEK,
            "    if (l.wall_ms >= l.n.paused_until_ms) lanes_walk",
            "    lanes_walk",
        ),
    ),
    mutant(
        "A peek shows several of a key that nobody has",
        "6",
        f"{SEEN}::test_of_a_key_the_first_alone[core]",
        (PEEK, "        if (w->seen[i] == key) return 1;", "        if (0) return 1;"),
    ),
    mutant(
        "A peek shows what is behind one in flight",
        "6",
        f"{SEEN}::test_of_a_key_the_first_alone[core]",
        (
            PEEK,
            "INTS(l->n.subscription, key), 0)) return 1;",
            "INTS(l->n.subscription, key), 0) < 0) return 1;",
        ),
    ),
    mutant(
        "A peek leaves out what waits behind its key no more",
        "6",
        f"{SEEN}::test_what_is_blocked[core]",
        (
            PEEK,
            "    if (l->n.ordered == ORDERED_BY_KEY && l->n.waiting)",
            "    if (0)",
        ),
    ),
    mutant(
        "A peek shows the next of a queue whose first is in flight",
        "6",
        f"{SEEN}::test_a_queue_that_hands_out_one_after_another[core]",
        (PEEK, "w.most = l.n.in_flight ? 0 : 1;", "w.most = 1;"),
    ),
    mutant(
        "What goes before a message is counted from itself on",
        "6",
        f"{SEEN}::test_explain[core]",
        (
            PEEK,
            "        w->found = 1;\n    } else if",
            "        w->count++;\n    } else if",
        ),
    ),
    mutant(
        "Of what goes before a message, only so many are told to be there",
        "8",
        f"{SEEN}::test_how_many_go_before_is_counted_so_far[core]",
        (PEEK, "*more = !w.found || w.count > LOOK_AHEAD;", "*more = 0;"),
    ),
    mutant(
        "Before a new message of a key only one that was handed out is found",
        "6",
        f"{SEEN}::test_of_a_key_the_first_alone[core]",
        (LOOK, "    if (first || row <= from) return", "    if (1) return"),
    ),
    mutant(
        "A look that got to its end says that it saw all",
        "8",
        f"{WORDS}::test_a_look_goes_through_so_many",
        (PEEK, "    w->over |= looked == LOOK_ROWS;", "    w->found |= !w->over;"),
    ),
    mutant(
        "A message in flight is told to be ready",
        "8",
        f"{SEEN}::test_browse[core-wanted1-expected1]",
        (
            LOOK,
            "    return row > l->n.cursor[message_lane(row)] ? EMBQ_READY",
            "    return row > 0 ? EMBQ_READY",
        ),
    ),
    mutant(
        "A look counts a receive",
        "5",
        f"{SEEN}::test_get[core]",
        (
            LOOK,
            "    pack_int(&l->out, row);\n    if",
            "    receives++;\n    pack_int(&l->out, row);\n    if",
        ),
    ),
    mutant(
        "A browse leaves out a message between two pages",
        "8",
        f"{WORDS}::test_browse_over_pages",
        (
            FACE,
            "            after = page[-1].row\n",
            "            after = page[-1].row + 1\n",
        ),
    ),
    mutant(
        "A browse goes on beyond its limit",
        "8",
        f"{SEEN}::test_browse[core-wanted0-expected0]",
        (FACE, "                if left == 0:", "                if left == -1:"),
    ),
    mutant(
        "What was looked at is handled by a `with`",
        "4",
        f"{SEEN}::test_what_was_looked_at_is_not_handled[core-peek]",
        (
            MESSAGES,
            "        if not self._receipt:",
            "        if self._receipt is None:",
        ),
    ),
    mutant(
        "What was looked at is acked by its row",
        "4",
        f"{SEEN}::test_what_was_looked_at_is_not_held[core-peek-ack]",
        (
            FACE,
            "    ack = ack_nowait = nack =",
            "    ack = print\n    ack_nowait = nack =",
        ),
    ),
]
