use clap::ValueEnum as _;

use super::*;

#[test]
fn every_shell_knows_every_command() {
    let mut command = Cli::command();
    command.build();
    for shell in Shell::value_variants() {
        let script = script(*shell);
        for subcommand in command.get_subcommands() {
            assert!(script.contains(subcommand.get_name()), "{shell}: {}", subcommand.get_name());
        }
        assert!(script.contains("--config") || script.contains("-l config"), "{shell}");
    }
}

#[test]
fn bash_takes_what_is_for_bash() {
    let checked = std::process::Command::new("bash").args(["-n", "-c", &script(Shell::Bash)]).output();
    let checked = checked.expect("bash");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    // Sourced, it completes: `tributary st` is `status`.
    let ask = format!(
        "{}\nCOMP_WORDS=(tributary st); COMP_CWORD=1; _tributary tributary st tributary; echo \"${{COMPREPLY[@]}}\"",
        script(Shell::Bash)
    );
    let asked = std::process::Command::new("bash").args(["-c", &ask]).output().expect("bash");
    assert_eq!(String::from_utf8_lossy(&asked.stdout).trim(), "status");
}

#[test]
fn machines_get_the_script_too() {
    let answer = run(&CompletionsArgs { shell: Shell::Fish });
    assert_eq!(answer.document, json!({"shell": "fish", "script": answer.text}));
    assert!(answer.text.contains("complete -c tributary"), "{}", answer.text);
}
