"""What shows each promise about security, wherever it is.

`ROWS` is what docs/security.md is made from, and `test_rows.py` holds it: each named test is there.
"""

from tests.reliability import Row

BOMBS = "security/test_bombs.py::"
CALLERS = "security/test_callers.py::"
CANARIES = "security/test_canaries.py::"
DOOR = "security/test_front_door.py::"
FILES = "security/test_files.py::"
FUZZ = "security/test_fuzz.py::"
HOSTILE = "security/test_hostile_servers.py::"
NAMES = "security/test_names.py::"
OAUTH = "security/test_oauth_attacks.py::"
OPENAPI = "security/test_openapi.py::"
OTHER = "security/test_other_user.py::"
SECRETS = "security/test_secrets.py::"
STORE = "auth/test_store.py::"
MACHINE = "auth/test_machine.py::"
DOCTOR = "cli/test_doctor.py::"
LAUNCHERS = "client/test_launchers.py::"
CONFIG = "core/test_config.py::"
FILE = "core/test_config_file.py::"
POLICY = "core/test_policy.py::"
READ = "cli/test_read.py::"
TOOLS = "core/test_tool_lock.py::"
TRUST = "core/test_trust.py::"
ONE = "reliability/test_one_daemon.py::"
CHILD = "transports/test_child.py::"
SSE = "transports/test_sse.py::"
STDERR = "transports/test_stderr.py::"
WEB = "transports/test_web.py::"

ROWS: dict[str, tuple[Row, ...]] = {
    "Only you, and never a web page": (
        Row(
            "another user at the socket",
            "the folder keeps them out, and the socket's mode, and the daemon: each alone, whatever they send",
            (
                f"{OTHER}test_at_the_socket_each_defence_alone_keeps_another_user_out",
                f"{OTHER}test_who_the_kernel_lets_in_are_its_owner_and_root",
                f"{DOOR}test_another_user_is_refused_whatever_they_send",
                f"{DOOR}test_every_route_of_the_socket_asks_who_is_there",
            ),
        ),
        Row(
            "another user who looks for the token",
            "the folder keeps them from it, and the file's mode: each alone; it is nowhere else",
            (
                f"{OTHER}test_at_the_port_each_defence_of_the_token_alone_keeps_it_from_another_user",
                f"{OTHER}test_the_token_alone_keeps_another_user_out_who_reads_all_the_rest",
                f"{OTHER}test_what_was_taken_away_were_the_defences",
                f"{OTHER}test_a_token_that_another_user_left_there_opens_nothing_and_shows_them_nothing",
            ),
        ),
        Row(
            "another user who can read the folder, and would change what is in it",
            "they can put nothing in the place of a file",
            (f"{OTHER}test_who_can_read_the_folder_puts_nothing_in_the_place_of_a_file",),
        ),
        Row(
            "anybody at the port",
            "`401` without the token, on every route; `/health` says `ok` and nothing else",
            (
                f"{DOOR}test_a_call_is_answered_as_its_row_says",
                f"{DOOR}test_who_has_no_token_is_told_the_same_whatever_is_wrong_with_it",
                f"{DOOR}test_the_token_counts_in_its_header_alone",
                f"{DOOR}test_every_route_asks_for_the_token_and_health_without_it_says_nothing",
                f"{DOOR}test_another_start_has_another_token_and_it_is_private",
            ),
        ),
        Row(
            "a page, or a name that points to this machine",
            "`403`, `421`, `415`: by `Origin`, by `Host`, by the type of the body, even if the page knew the token; no "
            "CORS header anywhere",
            (
                f"{DOOR}test_a_page_is_refused_whatever_it_sends_and_even_if_it_knew_the_token",
                f"{DOOR}test_no_route_says_that_a_page_may_come",
                f"{DOOR}test_a_call_is_answered_as_its_row_says",
            ),
        ),
        Row(
            "a request that two readers could read in two ways",
            "`400`, and the connection is closed",
            (
                f"{DOOR}test_what_two_readers_could_read_in_two_ways_is_not_read",
                f"{DOOR}test_the_first_line_names_a_path_and_http_of_today",
                f"{DOOR}test_no_word_of_nobodys_makes_a_call",
                f"{DOOR}test_there_is_no_other_protocol_anywhere",
                f"{DOOR}test_what_is_no_http_is_told_so_and_is_repeated_nowhere",
                f"{DOOR}test_a_call_is_answered_as_its_row_says",
                f"{DOOR}test_a_call_is_a_post_and_that_is_said",
            ),
        ),
        Row(
            "JSON that is no JSON, too deep, too large, or says a key twice",
            "`400`, `413`: nothing is sent to a server",
            (
                f"{DOOR}test_a_call_is_answered_as_its_row_says",
                f"{DOOR}test_a_field_that_is_none_or_of_another_kind_is_named",
                f"{DOOR}test_over_tcp_a_body_is_small",
                f"{FUZZ}test_the_body_of_a_request_is_what_it_should_be_or_refused",
                f"{FUZZ}test_strict_json_is_json_to_everyone_or_refused",
                f"{OPENAPI}test_whatever_is_sent_the_daemon_answers_as_it_says",
            ),
        ),
        Row(
            "two hundred who are slow or silent",
            "hung up on; the next good caller has an answer within a second",
            (
                f"{DOOR}test_who_is_slow_or_silent_is_not_waited_for_and_keeps_nobody_out",
                f"{CALLERS}test_however_many_are_silent_the_next_one_is_served",
                f"{CALLERS}test_who_is_being_answered_makes_no_room",
            ),
        ),
        Row(
            "somebody else on the port, before us or beside us",
            "the daemon is at its socket alone and says so; the command never uses the port; a token that was left is "
            "removed",
            (
                f"{DOOR}test_a_port_that_is_taken_is_said_and_the_socket_will_do",
                f"{OTHER}test_who_has_the_port_before_us_hears_nothing_and_gets_no_token",
                f"{OTHER}test_who_has_the_port_after_a_daemon_that_was_killed_is_shown_no_token_by_anybody",
                f"{OTHER}test_nobody_takes_or_shares_the_port_of_a_daemon_that_runs",
                f"{DOCTOR}test_who_has_the_port_is_named",
            ),
        ),
        Row(
            "another user's listener, or their link, in the place of the daemon",
            "no command tells it anything or signals it; the call is made directly, and what mends it is said",
            (
                f"{LAUNCHERS}test_the_daemon_of_another_user_is_told_nothing",
                f"{OTHER}test_what_another_user_put_in_the_place_of_the_socket_is_told_no_call",
                f"{OTHER}test_what_another_user_put_in_the_place_of_the_socket_is_told_nothing_by_any_command",
                f"{OTHER}test_whoever_listens_in_the_place_of_the_daemon_gets_no_signal_of_another_users",
            ),
        ),
        Row(
            "a pid of somebody else's in the pid file",
            "no signal: only the process that the kernel names as the listener gets one",
            (f"{ONE}test_what_is_left_behind_keeps_no_daemon_from_starting_and_misleads_nobody",),
        ),
    ),
    "Files": (
        Row(
            "a careless umask, files that are open already",
            "folders 0700, files 0600",
            (
                f"{FILES}test_all_that_is_made_is_the_users_alone_whatever_the_umask_is",
                f"{FILES}test_what_others_could_read_is_theirs_no_longer",
                f"{STDERR}test_five_files_of_one_mebibyte_are_kept_and_all_are_private",
                f"{STORE}test_files_are_private_whatever_the_umask_is",
                f"{TRUST}test_the_list_is_private_whatever_the_umask_is",
            ),
        ),
        Row(
            "a link, a second name, a pipe or a folder in the place of a file",
            "nobody else's file changes, nothing hangs, the call is made",
            (
                f"{FILES}test_whatever_stands_in_the_place_of_a_file_it_harms_nobody_and_costs_no_call",
                f"{FILES}test_what_is_no_file_of_ours_is_neither_read_nor_written_nor_waited_for",
                f"{FILES}test_a_file_is_replaced_whatever_stood_there",
                f"{FILES}test_whatever_stands_in_the_place_of_the_disabled_file_it_turns_auto_start_off_until_it_is_removed",
                f"{DOOR}test_whatever_stands_in_the_place_of_the_token_is_not_followed",
            ),
        ),
        Row(
            "a full disk",
            "the file as it was, and no half of another",
            (
                f"{FILES}test_a_full_disk_leaves_the_file_as_it_was_and_no_half_of_another",
                f"{ONE}test_on_a_full_disk_the_call_is_made_directly_and_no_empty_file_is_left",
            ),
        ),
        Row(
            "a state folder or a home that others can write to, that is a link, or that is another user's",
            "no daemon, and none that runs there is used; path, mode and command are said, the call is made directly",
            (
                f"{FILES}test_a_state_folder_that_others_have_a_hand_in_is_not_used_and_what_mends_it_is_said",
                f"{FILES}test_a_daemon_does_not_start_in_a_state_folder_that_others_have_a_hand_in",
                f"{FILES}test_a_home_of_others_is_none",
            ),
        ),
        Row(
            "a config that others can write to, or whose folder anybody can",
            "it is not read; path, mode and command are said",
            (
                f"{FILE}test_your_own_file_that_others_can_write_is_refused_with_the_command_that_mends_it",
                f"{FILE}test_a_file_in_a_folder_that_is_everybodys_is_refused_with_the_command_that_mends_it",
                f"{CONFIG}test_ones_own_file_that_others_can_write_is_an_error_with_the_command_that_mends_it",
            ),
        ),
        Row(
            "another user's config on the way up from the working directory",
            "passed over, with a line that says so: it breaks no call",
            (
                f"{FILE}test_a_file_of_another_user_is_skipped_with_a_notice",
                f"{FILE}test_a_link_that_another_user_made_is_not_followed",
                f"{CONFIG}test_a_strangers_file_that_the_caller_names_is_an_error",
            ),
        ),
    ),
    "Config, names and commands": (
        Row(
            "a cloned repository whose config has an app of a name that you use",
            "refused by the name of both files, until `tasak trust`; anew when it changes",
            (
                f"{TRUST}test_a_redefined_app_is_refused_by_the_name_of_both_files_with_the_command_that_allows_it",
                f"{TRUST}test_a_changed_file_has_to_be_trusted_anew",
                f"{TRUST}test_what_a_broken_file_may_define_may_be_redefined",
                f"{TRUST}test_a_list_behind_a_link_counts_for_nothing_and_is_not_written_through",
            ),
        ),
        Row(
            "an agent that may type `tasak read` and nothing else",
            "tools that you call read-only, of files that you trust; no flag, variable or file widens it",
            (
                f"{READ}test_what_is_read_only_is_called_and_nothing_else_on_every_road",
                f"{READ}test_nothing_that_stands_behind_it_widens_it",
                f"{READ}test_neither_the_environment_nor_the_folder_widens_it",
                f"{READ}test_it_hands_no_file_to_a_tool",
            ),
        ),
        Row(
            "a tool that is denied",
            "neither seen nor called, through the daemon or directly; `deny` wins",
            (f"{POLICY}test_allow_names_what_is_there_and_deny_wins",),
        ),
        Row(
            "names that are paths, options, or of our own",
            "refused before they touch a file or a metric",
            (
                f"{NAMES}test_what_is_no_name_is_no_app_wherever_it_is_said",
                f"{NAMES}test_no_name_that_a_caller_makes_up_becomes_a_label",
                f"{NAMES}test_a_word_of_ours_is_ours_and_behind_two_dashes_an_app",
            ),
        ),
        Row(
            "what a shell would run",
            "words, as they are, or refused in a string: there is no shell",
            (
                f"{NAMES}test_the_words_of_a_list_arrive_as_they_are_and_nothing_reads_them",
                f"{NAMES}test_the_quoted_words_of_a_string_arrive_as_they_are_and_nothing_reads_them",
                f"{NAMES}test_what_a_shell_would_act_upon_is_refused_in_a_string_and_nothing_runs",
                f"{NAMES}test_no_shell_is_anywhere",
            ),
        ),
        Row(
            "a value of a variable that looks like more than a value",
            "it is filled in once, as one word, and not looked into",
            (
                f"{NAMES}test_a_value_is_one_word_and_is_not_looked_into",
                f"{NAMES}test_each_form_means_what_it_says_in_one_pass",
                f"{NAMES}test_what_cannot_be_filled_in_is_an_error_and_nothing_is_started",
            ),
        ),
        Row(
            "YAML that makes objects, or grows",
            "refused, with its place",
            (
                f"{FILE}test_what_is_wrong_with_a_text_is_said_with_its_place",
                f"{FILE}test_a_bomb_is_an_error_and_not_a_hang",
                f"{BOMBS}test_what_aliases_make_large_is_refused_before_it_is_made",
                f"{FUZZ}test_a_config_file_says_something_or_what_is_wrong_with_it",
            ),
        ),
        Row(
            "packages that are fetched in whatever version is newest",
            "`tasak doctor` names them, and an mcp-remote with a known hole; the first answer of a session, too",
            (
                "core/test_pins.py::test_the_first_answer_over_each_connection_names_the_pinned_form",
                f"{DOCTOR}test_a_command_that_runs_whatever_is_newest_is_told_how_to_name_a_version",
                f"{DOCTOR}test_commands_of_every_kind_of_app_are_looked_at",
            ),
        ),
        Row(
            "modules and plugins that lie where the command is typed, or where others can write",
            "not loaded by the daemon",
            (
                f"{FILES}test_nothing_is_loaded_from_where_the_command_is_typed",
                f"{FILES}test_a_daemon_does_not_load_from_there_even_where_the_user_has_their_python_do_so",
                f"{DOCTOR}test_a_plugin_that_does_not_load_and_one_that_others_can_change_are_named",
            ),
        ),
    ),
    "Secrets": (
        Row(
            "looking for a secret in logs, errors, `ps`, connections, metrics, answers",
            "it is in none, at any log level",
            (
                f"{CANARIES}test_no_secret_of_a_config_or_a_caller_is_seen_anywhere",
                f"{CANARIES}test_no_token_of_a_sign_in_is_seen_anywhere",
                f"{CANARIES}test_none_is_in_a_log_that_was_rotated",
                f"{SECRETS}test_no_repr_shows_a_secret_whatever_holds_it",
                "cli/test_plugins.py::test_the_text_of_a_plugin_s_exception_is_told_nowhere_and_its_kind_and_place_are",
            ),
        ),
        Row(
            "a program that looks at its environment and its descriptors",
            "the documented variables, those its config names, three descriptors; no other caller's values",
            (
                f"{CANARIES}test_a_program_gets_the_environment_that_is_documented_and_what_its_config_names",
                f"{CANARIES}test_a_program_has_three_descriptors_and_no_secret_in_its_command_line",
                f"{CANARIES}test_another_caller_s_value_goes_to_a_program_of_its_own_and_never_to_this_one",
                f"{CHILD}test_nothing_but_the_first_three_descriptors_reaches_it",
            ),
        ),
        Row(
            "a file with a secret that others can read, or that is another user's",
            "refused, with the command that mends it",
            (
                f"{SECRETS}test_a_file_that_others_can_use_is_refused_with_the_command_that_mends_it",
                f"{SECRETS}test_a_file_or_a_link_of_another_user_is_refused",
                f"{SECRETS}test_only_root_may_keep_it_so",
            ),
        ),
        Row(
            "a file with a secret that root keeps for you, as containers have it",
            "read, whoever else may read it; refused if anybody but root can write to it",
            (
                f"{SECRETS}test_what_root_keeps_for_a_user_is_read_whoever_else_may_read_it",
                f"{SECRETS}test_what_root_keeps_is_refused_where_others_can_write_to_it",
                f"{SECRETS}test_a_call_gets_a_secret_of_a_container",
            ),
        ),
        Row(
            "a crash",
            "no core, of the daemon or a program",
            (f"{CANARIES}test_neither_the_daemon_nor_a_program_leaves_a_core_and_a_program_may_raise_its_limit",),
        ),
    ),
    "What stands in the way of a proof": (
        Row(
            "the kernel's word on who is at the socket, and the token, each taken away",
            "",
            (),
            lacks="both are in the daemon's code, which no test changes; where a mode keeps others out, the kernel "
            "refuses before the daemon is asked",
        ),
        Row(
            "a debugger of your own user at the daemon",
            "",
            (),
            lacks="it may: what your user may, its processes may",
        ),
        Row("macOS", "", (), lacks="the tests run on Linux; the calls that differ there were never made"),
        Row(
            "a library with a known hole",
            "",
            (),
            lacks="the [lower bounds](decisions/0002-dependencies.md) exclude those known when they were set; whether "
            "there are others, only a service on the network can tell, which no test asks",
        ),
        Row(
            "a config in a folder that becomes open to everybody while its daemon runs",
            "",
            (),
            lacks="the folder's mode is looked at when the config is read again, the file's at every call",
        ),
    ),
    "Hostile servers": (
        Row(
            "escapes, bidirectional text, markup, forged lines",
            "shown as text on a terminal and in logs; exact bytes into a pipe; valid JSON with `--json`",
            (
                f"{HOSTILE}test_what_a_server_says_is_inert_on_a_terminal",
                f"{HOSTILE}test_no_line_of_an_error_looks_like_one_of_ours",
                f"{HOSTILE}test_a_pipe_gets_the_bytes_that_were_sent",
                f"{HOSTILE}test_every_document_is_json",
                f"{HOSTILE}test_a_line_of_the_daemons_log_is_a_record_of_the_daemons",
                f"{FUZZ}test_what_is_made_inert_does_nothing_and_says_the_same",
            ),
        ),
        Row(
            "answers without end, of any depth, packed, doubled, or that refer to themselves",
            "an error of that app; the next call works; nothing is fetched",
            (
                f"{BOMBS}test_an_answer_that_cannot_be_read_is_an_error_at_once_and_no_matter_to_the_next_call",
                f"{BOMBS}test_a_list_of_a_million_tools_is_not_taken",
                f"{BOMBS}test_pages_without_end_are_not_asked_for",
                f"{BOMBS}test_reading_a_schema_takes_bounded_work_whatever_it_expands_to",
                f"{BOMBS}test_many_small_schemas_that_expand_are_listed_in_bounded_time",
                f"{BOMBS}test_a_reference_fetches_nothing",
                f"{BOMBS}test_a_compressed_answer_is_not_unpacked_without_end",
                "reliability/test_pool.py::test_a_line_without_end_ends_its_session_alone_and_memory_comes_back",
                f"{FUZZ}test_no_message_of_a_server_ends_a_session_or_answers_two_requests",
            ),
        ),
        Row(
            "metadata, redirects and pages that lead elsewhere, or back to us",
            "not followed, not fetched, not opened; a token goes to its own server alone",
            (
                f"{OAUTH}test_no_server_makes_us_ask_ourselves_for_its_metadata_however_it_spells_us",
                f"{OAUTH}test_no_redirect_leads_the_search_for_metadata_elsewhere_not_even_one_after_another",
                f"{OAUTH}test_what_is_no_page_to_sign_in_at_is_neither_shown_nor_opened",
                f"{OAUTH}test_a_page_is_opened_without_a_shell_as_one_word",
                f"{OAUTH}test_a_token_goes_to_no_other_path_s_app_and_to_no_other_port",
                f"{OAUTH}test_a_sign_in_carries_none_of_the_app_s_headers_and_nothing_of_the_environment",
            ),
        ),
        Row(
            "a server that would have a client's secret sent to itself, or to another authorization server",
            "a secret or a key is used at the `issuer` of the config, and nowhere if there is none",
            (
                f"{OAUTH}test_no_server_has_a_client_s_secret_sent_where_it_likes",
                f"{OAUTH}test_who_takes_another_s_name_gets_neither_its_secret_nor_its_tokens",
                f"{MACHINE}test_a_secret_or_a_key_is_used_nowhere_before_the_user_has_said_where",
                f"{MACHINE}test_a_secret_does_not_move_with_the_server",
            ),
        ),
        Row(
            "a name that leads to this machine, or into your network, by the time it is connected to",
            "where the connection has led counts: not a byte of a sign-in goes there",
            (
                f"{OAUTH}test_a_name_that_leads_to_us_by_the_time_of_the_connection_gets_no_byte",
                f"{OAUTH}test_a_token_is_not_renewed_where_a_name_leads_to_us_by_then",
                f"{OAUTH}test_a_proxy_is_not_taken_for_what_is_reached_through_it",
            ),
        ),
        Row(
            "a redirect, or an endpoint, of another origin",
            "not followed: nothing goes there, no header and no argument",
            (
                f"{WEB}test_nothing_goes_to_another_origin",
                f"{WEB}test_a_redirect_that_makes_it_another_request_is_not_followed",
                f"{SSE}test_messages_go_nowhere_but_to_the_origin_of_the_stream",
            ),
        ),
        Row(
            "a tool that is not what it was when you last saw it",
            "told with the first answer after it, as a difference; with `block`, not called until you accept it",
            (
                f"{TOOLS}test_a_change_is_told_with_the_first_answer_after_it_and_never_again",
                f"{TOOLS}test_a_tool_that_has_changed_is_not_called",
                f"{TOOLS}test_another_order_is_no_change",
                f"{TOOLS}test_nothing_in_a_difference_acts_on_a_terminal",
            ),
        ),
        Row(
            "two tools of one name, of which one is harmless",
            "neither is listed, called or accepted, whichever comes first; the name is told",
            (
                f"{TOOLS}test_a_tool_that_is_listed_twice_is_not_called_while_the_others_are",
                f"{TOOLS}test_a_list_leaves_out_what_is_listed_twice_and_says_so_each_time",
                f"{TOOLS}test_no_lock_is_made_of_or_held_against_a_tool_that_is_listed_twice",
                "core/test_tool_service.py::test_two_tools_of_one_name_are_none_of_either_page",
            ),
        ),
        Row(
            "a tool that says of itself that it is harmless",
            "it is sent twice only if you say so",
            (f"{NAMES}test_what_a_server_says_of_its_tools_is_no_leave_to_run_one_twice",),
        ),
        Row(
            "files of our own that were damaged",
            "an error that names the file, or what is whole in it",
            (
                f"{FUZZ}test_a_damaged_journal_loses_what_is_damaged_and_nothing_else",
                f"{FUZZ}test_a_damaged_file_of_sign_ins_is_an_error_that_names_it",
                f"{FUZZ}test_a_damaged_pid_file_names_a_process_or_none",
            ),
        ),
    ),
}


def as_markdown() -> str:
    """The end of docs/security.md."""
    lines = ["## What is tried, and what happens", ""]
    for title, rows in ((title, rows) for title, rows in ROWS.items() if any(row.tests for row in rows)):
        lines += [f"### {title}", "", "| | what happens | tried in |", "|---|---|---|"]
        lines += [*(row.as_markdown() for row in rows if row.tests), ""]
    lacking = [f"- *{row.what}*: {row.lacks}." for rows in ROWS.values() for row in rows if row.lacks]
    return "\n".join([*lines, "## What no test here shows", "", *lacking, ""])
