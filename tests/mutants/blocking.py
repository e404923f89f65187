"""Planted bugs of queues that block when they are full."""

from __future__ import annotations

from mutant import mutant

LINE, RING, LEAD, ADMIN = "csrc/line.c", "csrc/ring.c", "csrc/lead.c", "csrc/admin.c"
OVERFLOW, KEEPER = "csrc/overflow.c", "csrc/keeper.c"
BLOCKING, POLICIES = "test_blocking.py", "test_policies.py"

MUTANTS = [
    mutant(
        "A send passes those that wait for room",
        "CASE 57",
        f"{BLOCKING}::test_a_small_one_does_not_pass_a_large_one",
        (
            OVERFLOW,
            "c->no_room_at == e->looks || line_is_before(e, send)",
            "(void)e, (void)send, (void)c, 0",
        ),
    ),
    mutant(
        "Once a queue blocks no more, a send passes those that wait",
        "CASE 57",
        f"{POLICIES}::test_those_that_wait_go_first[drop_oldest-this process]",
        (
            OVERFLOW,
            "return c->no_room_at == e->looks || line_is_before(e, send);",
            "return c->options.overflow == OVERFLOW_BLOCK && line_is_before(e, send);",
        ),
    ),
    mutant(
        "Once a queue has no bounds, a send passes those that wait",
        "CASE 57",
        f"{POLICIES}::test_those_that_wait_go_first[no_bounds-another]",
        (
            OVERFLOW,
            "return options_are_bounded(&c->options) || is_behind(e, send, c);",
            "return (void)e, (void)send, options_are_bounded(&c->options);",
        ),
    ),
    mutant(
        "A send passes one that found no room in its group, once there are no bounds",
        "CASE 57",
        f"{POLICIES}::test_one_that_was_refused_in_the_group[options0]",
        (
            OVERFLOW,
            "    return c->no_room_at == e->looks || line_is_before",
            "    return line_is_before",
        ),
    ),
    mutant(
        "What comes back to its line goes to the end of it",
        "CASE 57",
        f"{BLOCKING}::test_in_the_order_of_the_calls[normal]",
        (LINE, "    if (came_back) /*", "    if (0) /*"),
    ),
    mutant(
        "Who gives up leaves those behind it waiting",
        "CASE 57",
        f"{BLOCKING}::test_a_small_one_does_not_pass_a_large_one",
        (LINE, "    op->line->removed = -1;\n    e->lines_due = 1;\n", ""),
        (LINE, "#define LOOK_AGAIN_US 1000000", "#define LOOK_AGAIN_US 100000000"),
    ),
    mutant(
        "Room that a receiver makes for itself is seen by nobody",
        "CASE 57",
        f"{BLOCKING}::test_room_comes[take]",
        (LINE, "e->lines_due |= line_may_move(e, l);", "(void)line_may_move(e, l);"),
        (LINE, "#define LOOK_AGAIN_US 1000000", "#define LOOK_AGAIN_US 100000000"),
    ),
    mutant(
        "Nobody looks for the room that another process makes",
        "CASE 57",
        f"{BLOCKING}::test_room_comes_from_another_process[normal]",
        (KEEPER, " || lines_are_due(e, now)", ""),
    ),
    mutant(
        "Other bounds wake nobody",
        "CASE 57",
        f"{BLOCKING}::test_room_comes[raise_the_bound]",
        (ADMIN, "    lines_look_again(e);\n", ""),
        (LINE, "#define LOOK_AGAIN_US 1000000", "#define LOOK_AGAIN_US 100000000"),
    ),
    mutant(
        "Sends that wait join each operation that runs alone",
        "CASES 23, 57",
        "test_full_disk.py::test_an_ack_beside_sends_that_wait",
        (LEAD, "pass == 1 && !alone && lines_serve", "pass == 1 && lines_serve"),
    ),
    mutant(
        "Who waits behind a send of a broker that is closed goes on waiting",
        "CASES 32, 57",
        f"{BLOCKING}::test_who_is_behind_one_that_is_closed",
        (
            RING,
            "        if (op->place == PLACE_LINE) line_give_up(e, op);\n        /*",
            "        /*",
        ),
    ),
    mutant(
        "All that have room go on in one group, however many they are",
        "CASE 57",
        f"{BLOCKING}::test_many_go_on_in_groups",
        (LINE, "++count < EMBQ_GROUP_COUNT && bytes < EMBQ_GROUP_BYTES", "++count"),
    ),
    mutant(
        "A flush does not wait for what stands in lines",
        "1",
        f"{BLOCKING}::test_flush_waits_for_what_was_staged[normal]",
        (LEAD, "op->flushes && op->result >= 0", "0"),
    ),
    mutant(
        "A flush waits for what was staged after it too",
        "CASE 57",
        f"{BLOCKING}::test_flush_waits_for_what_was_staged[normal]",
        (LINE, "            if (op->turn > flush->turn) break;\n", ""),
    ),
    mutant(
        "What stands in lines keeps acks out",
        "CASE 57",
        f"{BLOCKING}::test_acks_pass_what_is_staged",
        (RING, "op->nowait && op->kind == OP_SEND;", "1;"),
    ),
    mutant(
        "What stands in lines is staged without a limit",
        "CASE 57",
        f"{BLOCKING}::test_acks_pass_what_is_staged",
        (RING, "op->nowait && op->kind == OP_SEND;", "0;"),
    ),
    mutant(
        "A batch that can never fit waits",
        "CASE 57",
        f"{BLOCKING}::test_what_can_never_fit",
        (OVERFLOW, "if (fits(c, (struct load){0}, more)) {", "if (1) {"),
    ),
    mutant(
        "What was taken back by a signal is stored once there is room",
        "1",
        "test_signals.py::test_waiting_for_room[2]",
        (
            RING,
            "op->place == PLACE_PARKED || op->place == PLACE_LINE) op_unlink(op);",
            "op->place == PLACE_PARKED) op_unlink(op);",
        ),
        (LINE, "!over && !send->abandoned", "!over"),
    ),
]
