use clap::CommandFactory;

use super::*;

#[test]
fn the_arguments_are_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_takes_json_and_config() {
    for command in [
        "run",
        "check",
        "setup",
        "status",
        "inspect state",
        "verify public.* --at 0/1 --max-rate 5MiB",
        "fsck --deep",
        "repair",
        "resync public.*",
        "teardown",
        "demo",
    ] {
        let mut words = vec!["tributary"];
        words.extend(command.split(' '));
        words.extend(["--json", "-c", "x.toml"]);
        let cli = Cli::try_parse_from(&words).unwrap_or_else(|error| panic!("{command}: {error}"));
        assert!(
            cli.global.json || matches!(cli.command, Command::Demo(demo::DemoArgs { json: true, .. })),
            "{command}"
        );
        assert_eq!(cli.global.config, Some("x.toml".into()), "{command}");
    }
}

#[test]
fn what_is_not_there_is_not_offered() {
    for command in ["adopt", "sql"] {
        assert!(Cli::try_parse_from(["tributary", command]).is_err(), "{command}");
    }
}

#[test]
fn until_is_now_or_an_lsn() {
    use crate::pipeline::Until;
    let until = |text: &str| match Cli::try_parse_from(["tributary", "run", "--until", text]) {
        Ok(Cli { command: Command::Run(args), .. }) => args.until,
        Ok(_) | Err(_) => None,
    };
    assert_eq!(until("now"), Some(Until::Now));
    assert_eq!(until("16/B374D848"), Some(Until::Lsn(pgoutput::Lsn(0x16_B374_D848))));
    assert_eq!(until("later"), None);
}

#[test]
fn an_error_prints_its_causes_and_its_hint() {
    let cause = std::io::Error::other("connection refused");
    let error = Error::config("the source cannot be reached").caused_by(cause).hint("is it running?");
    assert_eq!(
        error_text(&error, false),
        "error: the source cannot be reached\n  where  connection refused\n  hint   is it running?\n"
    );
    assert_eq!(
        error_document(&error),
        json!({"error": {
            "kind": "config", "message": "the source cannot be reached", "causes": ["connection refused"],
            "hint": "is it running?", "exit_code": 2
        }})
    );
}

#[test]
fn every_command_and_argument_says_what_it_is() {
    let mut command = Cli::command();
    command.build();
    let mut waiting = vec![command];
    while let Some(command) = waiting.pop() {
        assert!(command.get_about().is_some(), "`{}` has no help", command.get_name());
        for argument in command.get_arguments() {
            assert!(
                argument.get_help().is_some(),
                "`{}` of `{}` has no help",
                argument.get_id(),
                command.get_name()
            );
        }
        waiting.extend(command.get_subcommands().filter(|command| command.get_name() != "help").cloned());
    }
}
