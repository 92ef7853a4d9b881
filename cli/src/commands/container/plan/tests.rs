use clap::{Args as _, Command, FromArgMatches as _};

use super::*;

fn flags(line: &[&str]) -> ContainerFlags {
    let command =
        ContainerFlags::augment_args(Command::new("run").no_binary_name(true).disable_help_flag(true));
    let mut matches = command.try_get_matches_from(line).unwrap_or_else(|bad| panic!("{line:?}: {bad}"));
    ContainerFlags::from_arg_matches_mut(&mut matches).expect("flags")
}

fn planned(line: &[&str]) -> CreateRequest {
    plan(flags(line)).unwrap_or_else(|bad| panic!("{line:?}: {bad}"))
}

#[test]
fn options_stop_at_the_image() {
    let request = planned(&["-t", "image", "sh", "-c", "--rm", "--", "-d"]);
    assert_eq!(request.config.image, "image");
    assert_eq!(request.config.cmd, Some(Words(["sh", "-c", "--rm", "--", "-d"].map(str::to_owned).to_vec())));
    assert!(request.config.tty && !request.host_config.auto_remove);
}

#[test]
fn without_attach_both_outputs_are_attached_and_input_with_i() {
    let config = planned(&["-i", "x"]).config;
    assert!(
        config.attach_stdin
            && config.attach_stdout
            && config.attach_stderr
            && config.open_stdin
            && config.stdin_once
    );
    let config = planned(&["-a", "STDOUT", "x"]).config;
    assert!(!config.attach_stdin && config.attach_stdout && !config.attach_stderr && !config.stdin_once);
}

#[test]
fn the_body_has_docker_s_shape() {
    let request = planned(&[
        "-e",
        "A=1",
        "-p",
        "80:81",
        "-v",
        "/a:/b",
        "-v",
        "/c",
        "--network",
        "none",
        "-m",
        "10m",
        "--cpus",
        "0.5",
        "x",
    ]);
    let body = serde_json::to_value(&request).expect("json");
    assert_eq!(body["Env"][0], "A=1");
    assert_eq!(body["ExposedPorts"]["81/tcp"], serde_json::json!({}));
    assert_eq!(body["Volumes"]["/c"], serde_json::json!({}));
    let host = &body["HostConfig"];
    assert_eq!(host["PortBindings"]["81/tcp"][0]["HostPort"], "80");
    assert_eq!((host["Binds"][0].as_str(), host["NetworkMode"].as_str()), (Some("/a:/b"), Some("none")));
    assert_eq!((host["Memory"].as_i64(), host["NanoCpus"].as_i64()), (Some(10 << 20), Some(500_000_000)));
    assert!(body["NetworkingConfig"]["EndpointsConfig"]["none"].is_object());
}

#[test]
fn entrypoints_and_health_checks() {
    assert_eq!(planned(&["x"]).config.entrypoint, None);
    assert_eq!(planned(&["--entrypoint", "", "x"]).config.entrypoint, Some(Words(vec![String::new()])));
    let health =
        planned(&["--health-cmd", "true", "--health-interval", "1s", "x"]).config.healthcheck.expect("check");
    assert_eq!(
        (health.test, health.interval),
        (vec!["CMD-SHELL".to_owned(), "true".to_owned()], 1_000_000_000)
    );
    assert_eq!(planned(&["--no-healthcheck", "x"]).config.healthcheck.expect("check").test, ["NONE"]);
}

#[test]
fn what_cannot_be_is_refused_in_docker_s_words() {
    for (line, want) in [
        (
            &["--rm", "--restart", "always", "x"][..],
            "conflicting options: cannot specify both --restart and --rm",
        ),
        (&["--memory-swappiness", "200", "x"], "invalid value: 200. Valid memory swappiness range is 0-100"),
        (
            &["--pull", "foo", "x"],
            "invalid pull option: 'foo': must be one of \"always\", \"missing\" or \"never\"",
        ),
        (&["--mac-address", "x", "x"], "x is not a valid mac address"),
        (&["--pid", "what", "x"], "--pid: invalid PID mode"),
        (
            &["--no-healthcheck", "--health-cmd", "x", "x"],
            "--no-healthcheck conflicts with --health-* options",
        ),
        (&["--health-interval", "-1s", "x"], "--health-interval cannot be negative"),
        (&["--gpus", "all", "x"], "--gpus is not supported yet"),
        (&["--log-driver", "none", "--log-opt", "a=b", "x"], "invalid logging opts for driver none"),
        (&["-p", "x:y:z:a", "x"], "invalid IP address: x:y"),
        (&["--storage-opt", "x", "x"], "invalid storage option"),
        (&["--env-file", "/no/such/file", "x"], "open /no/such/file: no such file or directory"),
    ] {
        assert_eq!(plan(flags(line)).expect_err("refused"), want, "{line:?}");
    }
}
