use std::rc::Rc;

use super::*;

fn data() -> Value {
    let labels = Value::Map(vec![("a".into(), Value::str("1")), ("b".into(), Value::str("2"))]);
    let state = Struct::ordered(
        "container.State",
        vec![("Running", Some(Value::Bool(true))), ("Pid", Some(Value::Int(42))), ("Health", None)],
    );
    Struct::ordered(
        "container.InspectResponse",
        vec![
            ("Id", Some(Value::str("abc"))),
            ("Name", Some(Value::str("/web"))),
            ("State", Some(state.into())),
            ("Labels", Some(labels)),
            ("Args", Some(Value::List(vec![Value::str("x"), Value::str("y")]))),
            ("Nothing", Some(Value::NIL)),
        ],
    )
    .with_method("Label", Rc::new(|key| format!("label:{key}")))
    .into()
}

fn render(source: &str) -> String {
    match Template::parse("", source) {
        Err(bad) => bad.to_string(),
        Ok(template) => template.render(&data(), Dialect::Row).unwrap_or_else(|bad| bad.to_string()),
    }
}

#[track_caller]
fn check(source: &str, want: &str) {
    assert_eq!(render(source), want, "{source}");
}

#[test]
fn fields_variables_and_pipelines() {
    check("{{.Id}} {{.ID}} {{.State.Pid}}", "abc abc 42");
    check("{{$x := .Name}}{{$x}}-{{$.Id}}", "/web-abc");
    check("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2");
    check("{{.Name | printf \"%s-%s\" \"a\"}}", "a-/web");
    check("{{(index .Args 1) | upper}}", "Y");
    check("{{.Label \"k\"}} {{\"k\" | .Label}}", "label:k label:k");
    check("{{(.State).Pid}}", "42");
    check("{{with .State}}{{.Pid}}{{end}}", "42");
}

#[test]
fn branches_loops_and_trims() {
    check("{{if .State.Running}}up{{else}}down{{end}}", "up");
    check("{{if not .State.Running}}1{{else if eq .State.Pid 42}}2{{else}}3{{end}}", "2");
    check("{{if .State.Health}}h{{else}}none{{end}}", "none");
    check("{{range .Args}}<{{.}}>{{end}}", "<x><y>");
    check("{{range $i, $a := .Args}}{{$i}}={{$a}},{{end}}", "0=x,1=y,");
    check("{{range $k, $v := .Labels}}{{$k}}:{{$v}};{{end}}", "a:1;b:2;");
    check("{{range .Nothing}}x{{else}}empty{{end}}", "empty");
    check("{{range .Args}}{{if eq . \"y\"}}{{break}}{{end}}{{.}}{{end}}", "x");
    check("{{range .Args}}{{if eq . \"x\"}}{{continue}}{{end}}{{.}}{{end}}", "y");
    check("a  {{- .Id -}}  b", "aabcb");
    check("a {{/* nothing */}} b {{- /* trims */ -}} c", "a  bc");
}

#[test]
fn functions_of_go_and_docker() {
    check("{{json .State}}", r#"{"Running":true,"Pid":42}"#);
    check("{{json .Labels}} {{json .Args}} {{json .Nothing}}", r#"{"a":"1","b":"2"} ["x","y"] null"#);
    check("{{len .Args}} {{len .Name}}", "2 4");
    check("{{index .Labels \"a\"}}|{{index .Labels \"zz\"}}", "1|<no value>");
    check("{{slice .Name 1}} {{slice .Name 1 3}}", "web we");
    check("{{join .Args \"+\"}} {{split \"a,b\" \",\"}}", "x+y [a b]");
    check("{{title \"hello world\"}} {{lower \"ABC\"}}", "Hello World abc");
    check("[{{pad .Id 1 2}}] {{truncate .Name 2}}", "[ abc  ] /w");
    check("{{print 1 2 \"a\" 3}} {{println 1 \"b\"}}", "1 2a3 1 b\n");
    check("{{and true .Id}} {{or \"\" .Name}} {{and 0 (index .Args 9)}}", "abc /web 0");
    check("{{eq 1 2 1}} {{ne 1 2}} {{lt 1 2}} {{ge \"b\" \"a\"}}", "true true true true");
    check("{{html \"<a>\"}} {{urlquery \"a b&c\"}} {{js \"it's\"}}", "&lt;a&gt; a+b%26c it\\'s");
}

#[test]
fn go_values_print_as_fmt_prints_them() {
    check("{{.Labels}} {{.Args}} {{.Nothing}}", "map[a:1 b:2] [x y] <nil>");
    check("{{.State.Health}}", "<nil>");
    check("{{1.5}} {{0x10}} {{'a'}} {{true}}", "1.5 16 97 true");
}

#[test]
fn errors_have_the_texts_of_go() {
    check(
        "{{.Foo}}",
        "template: :1:2: executing \"\" at <.Foo>: can't evaluate field Foo in type container.InspectResponse",
    );
    check(
        "a\n{{.State.Foo}}",
        "template: :2:8: executing \"\" at <.State.Foo>: can't evaluate field Foo in type container.State",
    );
    check("{{.Id.X}}", "template: :1:5: executing \"\" at <.Id.X>: can't evaluate field X in type string");
    check("{{foo .}}", "template: :1: function \"foo\" not defined");
    check("{{.Id", "template: :1: unclosed action");
    check("{{if .Id}}x", "template: :1: unexpected EOF");
    check("{{end}}", "template: :1: unexpected {{end}}");
    check("{{.Id}", "template: :1: bad character U+007D '}'");
    check("{{ }}", "template: :1: missing value for command");
    check("{{if}}{{end}}", "template: :1: missing value for if");
    check("{{\"abc}}", "template: :1: unterminated quoted string");
    check("{{$y}}", "template: :1: undefined variable \"$y\"");
    check(
        "{{index .Args 5}}",
        "template: :1:2: executing \"\" at <index .Args 5>: error calling index: index out of range: 5",
    );
    check("{{lower 5}}", "template: :1:8: executing \"\" at <5>: expected string; found 5");
    check(
        "{{lower .State.Pid}}",
        "template: :1:14: executing \"\" at <.State.Pid>: wrong type for value; expected string; got int",
    );
    check(
        "{{lower}}",
        "template: :1:2: executing \"\" at <lower>: wrong number of args for lower: want 1 got 0",
    );
    check(
        "{{lt true false}}",
        "template: :1:2: executing \"\" at <lt true false>: error calling lt: invalid type for comparison",
    );
}

#[test]
fn strict_rendering_refuses_missing_keys() {
    let template = Template::parse("", "{{.Labels.zz}}").expect("parses");
    let text = template.render_strict(&data()).expect_err("no such key").to_string();
    assert_eq!(text, "template: :1:9: executing \"\" at <.Labels.zz>: map has no entry for key \"zz\"");
    assert_eq!(template.render(&data(), Dialect::Row).expect("lenient"), "<no value>");
}

#[test]
fn in_a_header_text_functions_keep_the_name() {
    let template = Template::parse("", "{{upper .ID}} {{json .ID}} {{join .Names \",\"}} {{pad .ID 1 1}}")
        .expect("parses");
    let header =
        Value::Map(vec![("ID".into(), Value::str("container id")), ("Names".into(), Value::str("names"))]);
    let shown = template.render(&header, Dialect::Header).expect("renders");
    assert_eq!(shown, "container id container id names  container id ");
}

#[test]
fn mentions_finds_fields_anywhere() {
    let template =
        Template::parse("", "{{if .A}}{{range .B}}{{(printf .C.Size)}}{{end}}{{end}}").expect("parses");
    assert!(template.mentions("Size") && template.mentions("A") && !template.mentions("Names"));
}

#[test]
fn no_input_makes_the_parser_panic_or_recurse_without_bound() {
    for source in [
        "{{",
        "}}",
        "{{-",
        "{{- }}",
        "{{((((((",
        "{{.a.b.}}",
        "{{$}}",
        "{{'",
        "{{`",
        "{{|}}",
        "{{a:b}}",
        "{{/*",
        "é{{é}}é",
    ] {
        render(source);
    }
    render(&"{{if 1}}".repeat(5000));
    render(&format!("{{{{{}}}}}", "(".repeat(5000)));
}
