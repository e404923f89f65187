"""Planted bugs of where and when: priorities, delays, ttl, queues that are ordered.

Promises 2 and 6.
"""

from __future__ import annotations

from mutant import mutant

CLAIM, FRESH, TIMER = "csrc/claim.c", "csrc/fresh.c", "csrc/timer.c"
ORDER, SEND, DELIVERY = "csrc/order.c", "csrc/send.c", "csrc/delivery.c"
ADMIN, MESSAGE = "csrc/admin.c", "csrc/message.c"
STATEMENT = "csrc/statement.c"
PRIORITY, DELAY = "contract/test_priority.py", "contract/test_delay.py"
TTL, ORDERED = "contract/test_ttl.py", "contract/test_ordered.py"
DEDUP, ADMINS = "contract/test_dedup.py", "contract/test_admin.py"
SWEEP = "test_kill_sweep.py::test_killed_at_every_call"

MUTANTS = [
    mutant(
        "Low priorities go first",
        "6",
        f"{PRIORITY}::test_higher_priorities_go_first[core]",
        (
            CLAIM,
            "k->lane = lane_of_priority(priority);",
            "k->lane = lane_of_priority(9 - priority);",
        ),
    ),
    mutant(
        "A priority that is new to the queue is not seen by others",
        "2, 6",
        f"{PRIORITY}::test_counters_see_every_priority[core]",
        (SEND, "        channel_use(c, (int64_t)1 << p->lane);\n", ""),
    ),
    mutant(
        "A retry is of the default priority",
        "6",
        f"{PRIORITY}::test_a_retry_goes_before_new_ones_of_its_priority_only[core]",
        (
            DELIVERY,
            "sq.bind_int64(s, 3, d->lane);",
            "sq.bind_int64(s, 3, EMBQ_LANE_DEFAULT);",
        ),
    ),
    mutant(
        "What moves into an ordered queue keeps its priority",
        "6",
        f"{PRIORITY}::test_an_ordered_queue_gives_the_default_priority"
        "[core-redriven-key]",
        (MESSAGE, "    if (to->options.ordered) /* which", "    if (0) /* which"),
    ),
    mutant(
        "What moves into an ordered queue has the lane of another priority",
        "6",
        f"{PRIORITY}::test_an_ordered_queue_gives_the_default_priority"
        "[core-rejected-queue]",
        (
            MESSAGE,
            "int lane = lane_of_priority(flags & MESSAGE_PRIORITY);",
            "int lane = lane_of_priority(sq.column_int64(from, 0) & MESSAGE_PRIORITY);",
        ),
    ),
    mutant(
        "A suspect of a low priority goes with others",
        "5",
        f"{PRIORITY}::test_a_suspect_waits_for_its_priority[core]",
        (
            CLAIM,
            "    if (!k->count && !(k->op->flags & CLAIM_NO_SUSPECT)",
            "    if (!(k->op->flags & CLAIM_NO_SUSPECT)",
        ),
    ),
    mutant(
        "A delayed message is handed out at once",
        "6",
        f"{DELAY}::test_delay[core]",
        (STATEMENT, "lane = ?2 and due_at_ms <= ?4 and ?3 = 0", "lane = ?2 and ?3 = 0"),
    ),
    mutant(
        "A delayed message is handed out again and again",
        "2",
        f"{DELAY}::test_it_fails_like_any_other[core]",
        (
            TIMER,
            "    return row_delete(e, ST_DUE_DELETE, INTS(",
            "    return at_ms > 0 ? 0 : row_delete(e, ST_DUE_DELETE, INTS(",
        ),
    ),
    mutant(
        "A sleeper does not know when a delayed message is due",
        "2",
        "test_waiting.py::test_a_delayed_message_wakes_its_receiver",
        (
            CLAIM,
            "    if (k->c->sub.lanes & LANES_DEFERRED)\n        due =",
            "    if (0)\n        due =",
        ),
    ),
    mutant(
        "What is too old is handed out",
        "2",
        f"{TTL}::test_it_becomes_a_dead_letter[core]",
        (CLAIM, "    int more = timers_expire(e);", "    int more = 0;"),
    ),
    mutant(
        "A message in flight perishes",
        "2, 4",
        f"{TTL}::test_what_is_held_lives_on[core]",
        (
            TIMER,
            "d->message <= c->sub.cursor[lane]) return 0;",
            "d->message < 0) return 0;",
        ),
    ),
    mutant(
        "What comes back too late is handed out once more",
        "2",
        f"{TTL}::test_what_comes_back_too_late_goes[core-late nack]",
        (
            TIMER,
            "    if (!(c->sub.lanes & LANES_EXPIRY)) return 0;\n",
            "    if (c->sub.lanes) return 0;\n",
        ),
    ),
    mutant(
        "A claim with a full step of expiry says that there is nothing",
        "2",
        f"{TTL}::test_many_at_once[core]",
        ("csrc/lead.c", "return op->again && op->result == 0;", "return 0;"),
    ),
    mutant(
        "Two messages of one key are in flight",
        "6",
        f"{ORDERED}::test_one_of_a_key_at_a_time[core]",
        (ORDER, "    return sq.changes(e->db);", "    return 1;"),
    ),
    mutant(
        "At most once, a key is free though another has it",
        "6",
        f"{ORDERED}::test_auto_ack_waits_for_the_key[core]",
        (ORDER, "    return e->storage_error ? -1 : taken != 0;", "    return 0;"),
    ),
    mutant(
        "What is given back keeps its key",
        "2, 6",
        f"{ORDERED}::test_what_is_given_back_frees_its_key[core]",
        (
            "csrc/settle.c",
            "        if (d->key && key_release(e, c, d->key) < 0) return -1;\n",
            "",
        ),
    ),
    mutant(
        "A member of a run that fails does not know its key",
        "6",
        f"{ORDERED}::test_a_failed_one_keeps_its_key_back[core]",
        (
            DELIVERY,
            ".key = run_key(e, r, message)};",
            ".key = 0};",
        ),
    ),
    mutant(
        "The next of a key waits for ever",
        "2, 6",
        f"{ORDERED}::test_one_of_a_key_at_a_time[core]",
        (
            ORDER,
            "return statement_do(e, ST_DELIVERY_UNBLOCK, 0, INTS(c->sub.id, next));",
            "return 0;",
        ),
    ),
    mutant(
        "A message that perishes behind another of its key frees the key",
        "6",
        f"{ORDERED}::test_what_perishes_behind_another_frees_nothing[core]",
        (
            DELIVERY,
            "    int waited_behind = !d->owner && d->due_at_ms < 0;",
            "    int waited_behind = 0;",
        ),
    ),
    mutant(
        "Blocked messages beyond one step are taken for an end",
        "2",
        f"{ORDERED}::test_many_behind_one[core]",
        (
            FRESH,
            "k->op->again = by_key && b.looked == limit;",
            "k->op->again = 0;",
        ),
    ),
    mutant(
        "A wholly ordered queue hands out the next beside the first",
        "6",
        f"{ORDERED}::test_the_whole_queue[core]",
        (CLAIM, "    if (k->c->sub.in_flight) return 0;\n", ""),
    ),
    mutant(
        "A retry of a wholly ordered queue is overtaken",
        "6",
        f"{ORDERED}::test_the_whole_queue[core]",
        (
            CLAIM,
            "    if (k->c->sub.waiting) return waiters_claim(k) < 0 ? -1 : 0;\n",
            "    if (waiters_claim(k) < 0) return -1;\n    if (k->count) return 0;\n",
        ),
    ),
    mutant(
        "One that never waited is counted out of those that wait",
        "2",
        f"{DELAY}::test_delay[core]",
        (
            DELIVERY,
            "    else if (d->stored) c->sub.waiting--;",
            "    else c->sub.waiting--;",
        ),
    ),
    mutant(
        "A dedup id is not noted",
        "2",
        f"{DEDUP}::test_a_second_send_is_a_duplicate[core]",
        (SEND, "    if (id > 0 && dedup.data &&", "    if (id < 0 && dedup.data &&"),
    ),
    mutant(
        "A dedup id is known for ever",
        "1",
        f"{DEDUP}::test_the_window[core]",
        (
            STATEMENT,
            '"where scope = ?1 and key = ?2 and expires_at_ms > ?3",',
            '"where scope = ?1 and key = ?2 and ?3 > 0",',
        ),
    ),
    mutant(
        "A dedup id of one queue is one of all",
        "1",
        f"{DEDUP}::test_queues_are_apart[core]",
        (
            "csrc/idempotency.c",
            "    sq.bind_int64(s, 1, c->id);",
            "    sq.bind_int64(s, 1, c->id * 0);",
        ),
    ),
    mutant(
        "A purge ends after its first step",
        "2",
        f"{ADMINS}::test_purge_of_many[core]",
        (ADMIN, "op_stepped(e, op, count > 0);", "op_stepped(e, op, 0);"),
    ),
    mutant(
        "A purge takes the bytes for still there",
        "2",
        f"{ADMINS}::test_purge[core]",
        (ADMIN, "    c->sub.removed_bytes += bytes;\n", "    (void)bytes;\n"),
    ),
    mutant(
        "A message in flight is cancelled",
        "4",
        f"{ADMINS}::test_cancel_what_is_held[core]",
        (
            ADMIN,
            "    if (found == 0 || d.owner) return 0;\n",
            "",
        ),
    ),
    mutant(
        "A pause holds in this process alone",
        "7",
        f"{ADMINS}::test_pause_and_resume[core]",
        (
            STATEMENT,
            '"set paused_until_ms = ?2\\n"',
            '"set paused_until_ms = 0 * ?2\\n"',
        ),
    ),
    mutant(
        "Two processes that configure at once overwrite each other",
        "7",
        "test_threads.py::test_configuring_at_once",
        (
            ADMIN,
            "    if (!is_expected(c, (struct slice){op->bytes, op->size})) return 0;\n",
            "    (void)is_expected;\n",
        ),
        tries=3,
    ),
    mutant(
        "What became too old while it was claimed ahead never perishes",
        "2",
        f"{SWEEP}[give_back_mortal]",
        (
            "csrc/settle.c",
            "        return timer_rearm(e, c, d->message);",
            "        return 0;",
        ),
    ),
    mutant(
        "What waits for a time stays behind when its message is gone",
        "2",
        f"{SWEEP}[claim_due]",
        (
            MESSAGE,
            "    if (c->sub.lanes & LANES_EXPIRY &&",
            "    if (first > last &&",
        ),
    ),
    mutant(
        "After a death the sequences of other lanes are given out again",
        "1, 6",
        f"{SWEEP}[send_placed]",
        (
            "csrc/channel.c",
            "        if (!(lanes >> lane & 1)) continue;",
            "        if (lane != EMBQ_LANE_DEFAULT) continue;",
        ),
    ),
    mutant(
        "A dead letter frees no key",
        "6",
        f"{SWEEP}[bury_by_key]",
        (
            DELIVERY,
            "message_move(e, c, d->message, to, b);",
            "message_move(e, c, d->message, to, b);\n    d->key = 0;",
        ),
    ),
]
