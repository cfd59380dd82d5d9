"""What covers each row of the two tables "at most once" (D) and "faults" (F), wherever it is.

`ROWS` is what docs/reliability.md is made from, and `test_rows.py` holds it: each named test is there.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that may go wrong, and what its caller gets. `lacks` says what of it no test shows, and why."""

    what: str
    gets: str
    tests: tuple[str, ...]
    lacks: str = ""

    def as_markdown(self) -> str:
        """Its line in docs/reliability.md."""
        files = dict.fromkeys(test.partition("::")[0] for test in self.tests)
        return f"| {self.what} | {self.gets} | {', '.join(f'[{Path(file).stem}](../tests/{file})' for file in files)} |"


ONCE = "reliability/test_at_most_once.py::"
CUTS = "reliability/test_cuts.py::"
MACHINE = "reliability/test_state_machine.py::"
CANCEL = "reliability/test_cancel.py::"
SHELL = "reliability/test_shell.py::"
DRAIN = "reliability/test_draining.py::"
ONE = "reliability/test_one_daemon.py::"
POOL = "reliability/test_pool.py::"
SOAK = "reliability/test_soak.py::"
TROUBLE = "cli/test_trouble.py::"
OUTCOME = "cli/test_outcome.py::"
STUBBORN = "cli/test_stubborn.py::"
PLUGINS = "cli/test_plugins.py::"
CLIENT = "client/test_client.py::"
LAUNCHERS = "client/test_launchers.py::"
LAUNCHER = "client/test_launcher.py::"
PATIENCE = "client/test_patience.py::"
REPLACER = "client/test_replacer.py::"
FAILURES = "client/test_start_failures.py::"
CONFIG = "core/test_config.py::"
MANAGER = "core/test_connection_manager.py::"
BOOK = "core/test_outcomes.py::"
SERVICE = "core/test_tool_service.py::"
DAEMON = "test_daemon.py::"
ORPHANS = "test_orphans.py::"
SERVER = "test_server.py::"
WATCHDOG = "test_watchdog.py::"
CHILD = "transports/test_child.py::"
HTTP = "transports/test_http.py::"
SESSIONS = "transports/test_http_sessions.py::"
LINES = "transports/test_lines.py::"
SSE = "transports/test_sse.py::"
STDERR = "transports/test_stderr.py::"
TREE = "transports/test_tree.py::"

ROWS = {
    # Each call runs once at the most.
    "D1": Row(
        "a daemon that takes the call and hangs up",
        "exit 6, `unknown`; it is sent once, and never directly after that",
        (
            f"{ONCE}test_a_call_that_the_daemon_may_have_run_is_not_made_again",
            f"{CLIENT}test_what_breaks_off_after_the_body_may_have_run",
            f"{CUTS}test_a_command_whose_request_breaks_off_asks_again_only_if_nothing_of_the_call_was_sent",
        ),
    ),
    "D2": Row(
        "a daemon that takes the call and resets, says what nobody understands, half of it, or nothing",
        "exit 6, `unknown`; it is sent once",
        (
            f"{ONCE}test_a_call_that_the_daemon_may_have_run_is_not_made_again",
            f"{CLIENT}test_an_answer_that_says_nothing_known_may_have_run",
            f"{CUTS}test_a_command_whose_reply_breaks_off_says_so_and_does_not_ask_again",
            f"{LAUNCHERS}test_no_cut_makes_a_second_connection_and_none_looks_like_success",
            f"{PATIENCE}test_a_daemon_that_is_not_there_any_more_leaves_the_outcome_open",
        ),
    ),
    "D3": Row(
        "no daemon, or the socket of a dead one",
        "the call is made directly, once",
        (
            f"{ONCE}test_where_nobody_listens_the_call_is_made_directly_and_once",
            f"{LAUNCHERS}test_whatever_else_stands_in_the_place_of_the_socket_is_no_daemon",
        ),
    ),
    "D4": Row(
        "a server that dies of the call, or is killed at any moment of it",
        "exit 6, `unknown`; or the answer, if that was out already",
        (
            f"{ONCE}test_whatever_the_server_does_with_it_the_call_is_sent_once",
            f"{ONCE}test_a_server_that_is_killed_at_any_moment_runs_a_call_once_at_the_most",
            f"{SERVICE}test_a_server_that_dies_in_the_call_may_have_run_it_and_it_is_not_sent_again",
        ),
    ),
    "D5": Row(
        "a server elsewhere that runs the call and breaks off, or answers with an error of HTTP",
        "exit 6, `unknown`, with what the server said",
        (
            f"{ONCE}test_a_call_that_a_server_elsewhere_ran_and_did_not_answer_is_not_sent_again",
            f"{CUTS}test_what_is_said_of_a_call_to_a_server_elsewhere_is_true",
            f"{CUTS}test_what_is_said_of_a_call_whose_message_breaks_off_is_true",
            f"{CUTS}test_what_is_said_of_a_call_whose_stream_of_events_breaks_off_is_true",
        ),
    ),
    "D6": Row(
        "a server elsewhere that has forgotten the session",
        "one new session for all callers; the call runs there, and it is said that the state was lost",
        (
            f"{SESSIONS}test_fifty_callers_of_a_forgotten_session_share_one_fresh_one",
            f"{SESSIONS}test_a_session_that_the_server_forgot_is_opened_afresh_and_that_is_said",
        ),
    ),
    "D7": Row(
        "a tool that the user calls safe: once more, within the same deadline",
        "it runs a second time, within the first deadline; then exit 6",
        (
            f"{ONCE}test_what_the_user_calls_safe_is_sent_once_more_and_then_the_outcome_is_said",
            f"{SERVICE}test_what_the_user_calls_safe_runs_once_more",
            f"{SERVICE}test_both_attempts_of_a_safe_call_have_one_deadline",
        ),
    ),
    "D8": Row(
        "an error is an answer",
        "exit 5, `executed`; never repeated",
        (
            f"{ONCE}test_whatever_the_server_does_with_it_the_call_is_sent_once",
            f"{SERVICE}test_a_json_rpc_error_is_an_answer_whatever_its_code",
            f"{SERVICE}test_an_answer_is_never_asked_for_twice",
        ),
    ),
    "D9": Row(
        "many who send the same call id",
        "one of them runs it, all get its result",
        (
            f"{OUTCOME}test_twenty_commands_with_one_id_make_one_call_and_all_print_its_answer",
            f"{BOOK}test_all_who_ask_while_it_is_under_way_get_its_one_answer",
        ),
    ),
    "D10": Row(
        "all of it, in whatever order",
        "no call runs twice, and no end is a lie",
        (
            f"{MACHINE}test_nothing_that_happens_makes_a_call_run_twice_or_its_end_a_lie",
            f"{MACHINE}test_ten_thousand_steps_make_no_call_run_twice_and_no_end_a_lie",
            f"{BOOK}test_ten_thousand_events_make_no_call_twice",
        ),
    ),
    # Faults.
    "F01": Row(
        "the daemon is killed in a call",
        "exit 6 within 1 s; the next call starts a daemon; nothing that the old one started is left",
        (
            f"{TROUBLE}test_a_daemon_that_is_killed_in_a_call_leaves_its_outcome_unknown",
            f"{TROUBLE}test_after_a_kill_the_next_call_starts_another",
            f"{ORPHANS}test_after_a_killed_daemon_its_servers_go_at_once_and_the_others_when_the_next_one_starts",
        ),
    ),
    "F02": Row(
        "a server is killed in a call",
        "its calls end with exit 6 within half a second; other apps do not notice; the next call starts it anew",
        (
            f"{POOL}test_a_killed_server_fails_its_calls_within_half_a_second_and_no_other_apps",
            f"{MANAGER}test_every_call_of_a_server_fails_at_once_when_it_dies",
            f"{MANAGER}test_a_dead_server_is_replaced_on_the_next_call",
        ),
    ),
    "F03": Row(
        "a server does not answer its handshake",
        "all who wait are told together after `init_timeout`; the server is ended, and tried again ever more slowly",
        (
            f"{MANAGER}test_all_who_wait_for_a_server_that_never_answers_give_up_before_it_is_let_go",
            f"{MANAGER}test_failed_connects_back_off_from_the_second_repeat_on_and_ever_longer",
            f"{SERVICE}test_a_server_that_never_answers_is_given_up_in_time_and_not_asked_again",
        ),
    ),
    "F04": Row(
        "a server does not go when it is told to",
        "it is killed after 2 s and 2 s; ten of them side by side take no longer",
        (
            f"{CHILD}test_one_that_will_not_go_is_killed_with_its_group",
            f"{ORPHANS}test_ten_servers_that_will_not_go_are_ended_side_by_side",
        ),
    ),
    "F05": Row(
        "a server has children, wherever they have gone",
        "all are ended with it: children, grandchildren, those in sessions of their own",
        (
            f"{ORPHANS}test_after_a_stop_nobody_is_left",
            f"{ORPHANS}test_when_a_connection_has_rested_too_long_nobody_is_left",
            f"{ORPHANS}test_when_the_config_was_edited_nobody_of_the_old_connection_is_left",
            f"{ORPHANS}test_when_the_server_crashes_nobody_is_left",
            f"{ORPHANS}test_of_a_server_that_npx_wraps_nobody_is_left",
            f"{TREE}test_all_that_came_of_a_program_are_ended_with_it",
        ),
    ),
    "F06": Row(
        "a server floods its stderr",
        "it goes on; of a flood the log keeps beginning, end and the number of bytes between them; five files of 1 MiB",
        (
            f"{POOL}test_a_flood_of_stderr_holds_up_no_other_app",
            f"{POOL}test_the_log_of_a_flood_is_bounded",
            f"{CHILD}test_a_program_that_floods_stderr_is_not_kept_waiting",
            f"{STDERR}test_five_files_of_one_mebibyte_are_kept_and_all_are_private",
        ),
    ),
    "F07": Row(
        "a server floods its stdout",
        "it is read at a pace that leaves time to other apps; a line of more than 128 MiB ends the session within 5 s",
        (
            f"{POOL}test_a_flood_does_not_fill_the_memory_and_its_own_app_goes_on",
            f"{POOL}test_a_line_without_end_ends_its_session_alone_and_memory_comes_back",
        ),
    ),
    "F08": Row(
        "a server prints what is no message",
        "it is passed over and counted; the first three lines are logged",
        (
            f"{LINES}test_a_strange_line_is_counted_and_passed_over",
            f"{LINES}test_the_first_three_strange_lines_are_logged_and_the_rest_counted",
            f"{LINES}test_bytes_that_are_not_utf8_become_replacement_characters_and_nothing_else_happens",
            f"{SERVICE}test_garbage_between_the_answers_is_passed_over",
        ),
    ),
    "F09": Row(
        "a server leaves after so many calls, or crashes again and again",
        "started anew, between two calls; in a loop ever more slowly, and `tasak daemon status` names it",
        (
            f"{POOL}test_a_server_that_leaves_after_so_many_calls_is_replaced_between_them",
            f"{POOL}test_an_app_that_crashes_in_a_loop_is_seen_in_the_daemons_status",
        ),
    ),
    "F10": Row(
        "a connection goes silent, or ends in one direction",
        "exit 6 when the deadline is over; the connection is not used again",
        (
            f"{SESSIONS}test_a_connection_that_goes_silent_ends_its_call_in_time_and_not_the_next",
            f"{SSE}test_a_stream_that_goes_silent_ends_a_call_in_time",
            f"{SSE}test_a_stream_that_ends_before_the_answer_leaves_its_outcome_unknown",
        ),
    ),
    "F11": Row(
        "a server elsewhere is started anew",
        "the call is made in a new session, and that is said",
        (
            f"{SESSIONS}test_a_server_that_is_gone_says_so_at_the_next_call_and_is_used_again_when_it_is_back",
            f"{SSE}test_a_server_that_has_forgotten_the_session_gets_another_and_the_call_runs_there",
        ),
    ),
    "F12": Row(
        "a server elsewhere answers with an error of HTTP, or with what is no answer",
        "an error that names the status; the session goes on",
        (
            f"{HTTP}test_trouble_with_one_call_is_named_and_is_no_trouble_for_the_next",
            f"{SSE}test_trouble_with_one_call_is_named_and_is_no_trouble_for_the_next",
        ),
    ),
    "F13": Row(
        "a slow network",
        "the deadline is the whole call's; progress begins it anew, up to ten times as long",
        (
            f"{SESSIONS}test_the_time_is_that_of_the_whole_answer",
            f"{SERVICE}test_progress_for_ever_ends_in_any_case",
        ),
    ),
    "F15": Row(
        "a full disk",
        "the call is made directly; no empty file is left",
        (
            f"{ONE}test_on_a_full_disk_the_call_is_made_directly_and_no_empty_file_is_left",
            f"{BOOK}test_a_full_disk_refuses_the_call_and_leaves_no_half_of_a_line",
        ),
    ),
    "F18": Row(
        "what a dead daemon has left",
        "replaced under the lock; a socket that answers is never removed",
        (
            f"{ONE}test_what_is_left_behind_keeps_no_daemon_from_starting_and_misleads_nobody",
            f"{DAEMON}test_what_a_dead_daemon_left_is_replaced",
            f"{LAUNCHER}test_on_a_socket_that_a_dead_daemon_left_nobody_listens",
        ),
    ),
    "F19": Row(
        "fifty first callers",
        "one daemon, one server, fifty answers",
        (
            f"{ONE}test_whoever_comes_first_there_is_one_daemon_and_each_has_an_answer",
            "cli/test_crowd.py::test_fifty_first_callers_get_one_daemon_one_server_and_fifty_answers",
            f"{LAUNCHER}test_when_a_starter_dies_who_waits_for_it_starts_the_daemon",
        ),
    ),
    "F20": Row(
        "the port is taken",
        "the daemon is at its socket alone, which `tasak` uses anyway; `tasak daemon status` says it",
        ("security/test_front_door.py::test_a_port_that_is_taken_is_said_and_the_socket_will_do",),
    ),
    "F21": Row(
        "the clock jumps",
        "deadlines, idle times and pauses stay what they are",
        (
            f"{BOOK}test_a_clock_that_is_set_forward_does_not_make_the_process_forget",
            f"{FAILURES}test_a_clock_that_is_set_back_does_not_lengthen_the_pause",
        ),
        lacks="every other time is taken from the monotonic clock, which does not jump",
    ),
    "F23": Row(
        "SIGTERM with calls under way",
        "no new calls; what ends within 5 s is delivered, the rest cancelled and told as `unknown`; exit 0",
        (
            f"{DRAIN}test_sigterm_delivers_what_ends_in_time_and_says_of_the_rest_that_it_may_have_run",
            f"{DAEMON}test_sigterm_lets_running_calls_end_and_leaves_nothing",
            f"{DAEMON}test_a_daemon_takes_nothing_along_that_is_another_ones",
        ),
    ),
    "F24": Row(
        "other signals",
        "SIGINT and a second SIGTERM end at once, and reap; SIGHUP is nothing; SIGUSR1 and SIGQUIT log the stacks",
        (
            f"{DAEMON}test_sigint_does_not_wait_for_running_calls",
            f"{DAEMON}test_a_second_sigterm_does_not_wait_any_longer_for_running_calls",
            f"{DRAIN}test_what_a_terminal_sends_is_nothing_to_the_daemon",
            f"{DRAIN}test_a_signal_that_asks_a_program_what_it_does_does_not_end_the_daemon",
            f"{DRAIN}test_a_server_has_its_signals_as_every_program_has_them",
        ),
    ),
    "F26": Row(
        "limits of memory, processes and descriptors",
        "that call fails, the daemon goes on",
        (
            f"{POOL}test_an_answer_that_does_not_fit_into_memory_fails_its_call_and_the_daemon_goes_on",
            f"{POOL}test_starting_servers_without_memory_does_not_hang_the_daemon",
            f"{POOL}test_without_room_for_a_process_an_app_does_not_start_and_others_go_on",
            f"{POOL}test_without_a_free_descriptor_an_app_does_not_start_and_others_go_on",
        ),
    ),
    "F27": Row(
        "growth",
        "memory, descriptors, tasks, threads and children stay where they were",
        (f"{SOAK}test_three_thousand_calls_while_things_break_each_end_once_and_truly_and_leave_nothing",),
        lacks="the hundred thousand calls are no test but a command, `python -m bench.soak`; its figures stand above",
    ),
    "F28": Row(
        "daemon and command are of different versions",
        "the daemon is drained and replaced; one that is younger than a minute stays, and the call is made directly",
        (
            f"{ONE}test_a_daemon_of_another_version_is_replaced_in_either_direction",
            f"{ONE}test_two_installations_that_are_used_in_turn_do_not_replace_each_others_daemon_each_time",
            f"{ONE}test_who_waits_while_another_replaces_the_daemon_does_not_take_the_old_one_for_the_new",
            f"{REPLACER}test_a_young_one_is_left_alone_and_the_call_goes_direct",
            f"{SERVER}test_a_caller_of_another_version_is_told_so_instead_of_100",
        ),
    ),
    "F29": Row(
        "the installation is replaced or deleted under a running daemon",
        "calls go on, and a command of another version replaces the daemon",
        (
            f"{ONE}test_calls_go_on_when_the_installation_is_deleted_under_the_daemon",
            f"{ONE}test_what_was_not_used_before_is_there_when_the_installation_is_deleted",
        ),
        lacks="signing in and a third party's transport, where none was used before, are imported from the new files, "
        "and so is what a library imports late",
    ),
    "F30": Row(
        "the config changes",
        "the next call sees it; only the changed app's session is replaced; a broken file breaks only itself",
        (
            f"{CONFIG}test_an_edited_file_counts_at_once",
            f"{CONFIG}test_a_broken_file_breaks_only_itself",
            f"{MANAGER}test_an_edited_definition_gets_a_fresh_session_that_says_so",
            f"{MANAGER}test_an_edit_leaves_the_sessions_of_others_alone",
        ),
    ),
    "F31": Row(
        "a home that cannot be written",
        "a direct call and one line of warning; nothing is written elsewhere",
        (
            f"{SHELL}test_a_home_that_is_read_only_means_a_direct_call_one_line_and_nothing_written_elsewhere",
            f"{TROUBLE}test_a_state_folder_that_cannot_be_written_means_direct_calls",
        ),
    ),
    "F32": Row(
        "HOME is not set, empty, relative, or strange",
        "the user's entry in the database counts; without one, direct calls work, and the rest says what to set",
        (
            f"{SHELL}test_without_home_the_users_entry_in_the_database_says_where_it_is",
            f"{SHELL}test_without_home_and_entry_it_is_said_what_to_set",
            f"{SHELL}test_a_home_that_is_none_is_refused_where_there_is_something_to_do_with_it",
            f"{SHELL}test_without_a_home_a_project_s_app_is_called_directly",
            f"{SHELL}test_a_home_may_have_any_name",
        ),
    ),
    "F33": Row(
        "a home whose path is too long for a socket",
        "it works",
        (
            f"{SHELL}test_a_home_may_have_any_name",
            f"{DAEMON}test_a_home_whose_path_is_too_long_for_a_socket_will_do",
            f"{LAUNCHER}test_a_path_of_any_length_is_reached_and_the_working_directory_stays",
        ),
    ),
    "F35": Row(
        "the directory of who starts the daemon",
        "it is not kept busy; in a deleted one the user's own file alone counts",
        (
            f"{SHELL}test_a_directory_where_a_command_ran_is_not_kept_busy",
            f"{SHELL}test_in_a_directory_that_is_gone_the_users_own_file_alone_counts_and_apps_start_at_home",
        ),
    ),
    "F36": Row(
        "who captures a command's output waits for the daemon",
        "the command is over when its answer is out",
        (
            f"{SHELL}test_who_captures_what_a_command_says_waits_for_nobody_else",
            f"{SHELL}test_a_result_that_cannot_be_written_is_one_line_and_no_second_call",
            f"{TROUBLE}test_whoever_captures_the_output_does_not_wait_for_the_daemon",
            f"{LAUNCHER}test_who_reads_what_a_caller_says_is_not_held_by_the_daemon_it_started",
        ),
        lacks="ssh, for which a server to log in to is needed; it is pipes and a session of its own, which are tried",
    ),
    "F37": Row(
        "the terminal is closed, or Ctrl-C pressed",
        "daemon and servers do not notice; the command's own call is cancelled",
        (
            f"{SHELL}test_a_terminal_that_is_closed_ends_neither_daemon_nor_server",
            f"{SHELL}test_ctrl_c_at_a_terminal_ends_the_call_and_neither_daemon_nor_server",
            f"{LAUNCHER}test_it_stands_apart_from_who_started_it",
        ),
    ),
    "F38": Row(
        "the command is interrupted, ended or killed",
        "the server is told within 1 s; the session serves the next call",
        (
            f"{TROUBLE}test_a_command_that_is_ended_cancels_its_call_and_keeps_the_session",
            f"{TROUBLE}test_ctrl_c_ends_a_first_call_too",
            f"{TROUBLE}test_a_direct_call_that_is_ended_cancels_and_ends_its_server",
            f"{CANCEL}test_a_command_that_is_ended_cancels_its_call_at_the_server_and_the_session_lives",
            f"{CANCEL}test_a_call_that_takes_too_long_is_cancelled_at_the_server_and_the_session_lives",
        ),
    ),
    "F39": Row(
        "calls while the daemon is stopped and started",
        "each call ends as result, `not_executed` or `unknown`, and runs once at the most",
        (
            f"{DRAIN}test_who_calls_again_and_again_while_the_daemon_is_restarted_gets_one_honest_end_each_time",
            f"{DRAIN}test_a_new_call_while_the_daemon_drains_is_made_directly_and_once",
        ),
    ),
    "F40": Row(
        "an idle time that ends in a call",
        "not while it is in use, not before its time; within a second after it",
        (
            f"{MANAGER}test_what_is_in_use_is_never_evicted",
            f"{POOL}test_a_server_goes_a_moment_after_its_idle_time_counted_from_the_end_of_the_call",
            f"{POOL}test_a_connection_that_grew_too_old_in_a_call_goes_when_the_call_has_ended",
        ),
    ),
    "F41": Row(
        "a caller and the sweep at the same moment",
        "no call gets a session that is being closed",
        (
            f"{POOL}test_in_ten_thousand_races_with_the_sweep_no_call_gets_a_connection_that_closes",
            f"{POOL}test_in_two_hundred_races_no_call_gets_a_server_that_is_being_ended",
        ),
    ),
    "F42": Row(
        "a daemon that is stopped or hangs",
        "2 s, then the call is made directly, once; `tasak daemon status` says it, `stop` ends it",
        (
            f"{TROUBLE}test_a_hung_daemon_costs_two_seconds_and_the_call_runs_once",
            f"{TROUBLE}test_a_hung_daemon_costs_a_list_of_tools_no_more_than_a_call",
            f"{TROUBLE}test_a_hung_daemon_is_told_by_status_and_ended_by_stop",
            f"{OUTCOME}test_a_hung_daemons_call_is_not_made_directly",
        ),
    ),
    "F43": Row(
        "something holds up the daemon's loop",
        "the log has the stack and the plugin's name; calls go around it after 2 s",
        (
            f"{WATCHDOG}test_who_holds_up_the_loop_is_named_with_the_stack",
            f"{PLUGINS}test_a_plugin_that_holds_up_the_daemon_is_named_and_others_calls_go_on",
        ),
    ),
    "F44": Row(
        "a plugin raises whatever there is, wherever it may, goes on where it is cancelled, or leaves threads",
        "its app fails with the reason, others do not notice",
        (
            f"{PLUGINS}test_a_plugin_that_does_not_load_is_listed_with_the_reason",
            f"{POOL}test_whatever_a_plugin_raises_in_a_request_its_caller_is_told_and_nobody_else_notices",
            f"{POOL}test_whatever_a_plugin_raises_when_it_closes_the_other_connections_are_closed_too",
            f"{STUBBORN}test_a_call_has_its_end_and_so_has_the_process",
            f"{STUBBORN}test_where_a_plugin_has_taken_every_thread_other_apps_go_on",
        ),
    ),
    "F45": Row(
        "the daemon, or who starts it, is killed at any moment of the start",
        "the next call works",
        (f"{ONE}test_after_a_kill_at_any_moment_of_the_start_the_next_call_works",),
    ),
    "F47": Row(
        "two homes, another pid namespace, a home that machines share",
        "they have nothing in common; a process of another namespace is not judged",
        (
            f"{SHELL}test_two_homes_have_nothing_in_common",
            f"{TREE}test_a_maker_is_dead_when_its_pid_is_another_processes_or_nobodys",
        ),
        lacks="a home on a network file system, for which a second machine is needed",
    ),
    "F49": Row(
        "fifty callers of an app that is not open yet",
        "one connect; who gives up does not cancel it for the rest",
        (
            f"{MANAGER}test_fifty_first_callers_share_one_connect",
            f"{MANAGER}test_a_caller_that_gives_up_does_not_cancel_the_connect_for_the_rest",
            f"{POOL}test_fifty_callers_of_an_app_that_was_just_edited_share_one_connect",
        ),
    ),
    "F50": Row(
        "more callers than places",
        "served in the order they came; who waits too long is told that nothing was sent",
        (
            f"{POOL}test_a_hundred_callers_of_an_app_that_does_four_at_a_time_are_served_in_the_order_they_came",
            f"{POOL}test_who_comes_while_a_tool_hangs_with_every_place_is_told_in_time_that_nothing_was_sent",
            f"{POOL}test_apps_that_hang_do_not_use_up_the_pool",
        ),
    ),
}


def as_markdown() -> str:
    """The end of docs/reliability.md."""
    shown = [row for row in ROWS.values() if row.tests]
    lacking = [f"- *{row.what}*: {row.lacks}." for row in ROWS.values() if row.lacks]
    return "\n".join(
        [
            "## What goes wrong, and what you get",
            "",
            "| | you get | tried in |",
            "|---|---|---|",
            *(row.as_markdown() for row in shown),
            "",
            "## What no test here shows",
            "",
            *lacking,
            "",
        ]
    )
