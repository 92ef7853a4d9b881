use proptest::prelude::*;

use super::*;

fn rule(
    allow: bool,
    typ: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut r = LinuxDeviceCgroup::default();
    r.set_allow(allow)
        .set_typ(Some(typ))
        .set_major(major)
        .set_minor(minor)
        .set_access(Some(access.to_owned()));
    r
}

fn can(p: &Policy, kind: DeviceKind, major: u32, minor: u32, access: &str) -> bool {
    let access =
        Access { read: access.contains('r'), write: access.contains('w'), mknod: access.contains('m') };
    p.allows(kind, major, minor, access)
}

#[test]
fn nothing_is_allowed_without_rules() {
    let p = Policy::new(&[]).unwrap();
    assert!(!can(&p, DeviceKind::Char, 1, 3, "r"));
}

#[test]
fn the_default_rules_allow_null_and_terminals_but_no_disk() {
    let mut rules = vec![rule(false, LinuxDeviceType::A, None, None, "rwm")];
    rules.extend(default_rules());
    let p = Policy::new(&rules).unwrap();
    assert!(can(&p, DeviceKind::Char, 1, 3, "rw") && can(&p, DeviceKind::Char, 136, 7, "rwm"));
    assert!(can(&p, DeviceKind::Block, 8, 0, "m") && !can(&p, DeviceKind::Block, 8, 0, "r"));
    assert!(!can(&p, DeviceKind::Char, 1, 1, "r"), "/dev/mem");
}

#[test]
fn rights_given_in_two_rules_add_up_and_can_be_taken_off() {
    let c = LinuxDeviceType::C;
    let p =
        Policy::new(&[rule(true, c, Some(1), Some(1), "r"), rule(true, c, Some(1), Some(1), "w")]).unwrap();
    assert!(can(&p, DeviceKind::Char, 1, 1, "rw"));
    let p = Policy::new(&[rule(true, c, Some(1), Some(1), "rwm"), rule(false, c, Some(1), Some(1), "w")])
        .unwrap();
    assert!(can(&p, DeviceKind::Char, 1, 1, "rm") && !can(&p, DeviceKind::Char, 1, 1, "rw"));
}

#[test]
fn privileged_allows_everything_and_later_denials_except() {
    let p = Policy::new(&[
        rule(true, LinuxDeviceType::A, None, None, "rwm"),
        rule(false, LinuxDeviceType::B, Some(8), None, "w"),
    ])
    .unwrap();
    assert!(can(&p, DeviceKind::Char, 1, 1, "rwm") && can(&p, DeviceKind::Block, 8, 0, "r"));
    assert!(!can(&p, DeviceKind::Block, 8, 3, "rw"));
}

#[test]
fn exceptions_have_the_v1_form() {
    let p = Policy::new(&[
        rule(true, LinuxDeviceType::C, Some(136), None, "rwm"),
        rule(true, LinuxDeviceType::B, Some(8), Some(-1), "mr"),
    ])
    .unwrap();
    let texts: Vec<String> = p.exceptions.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["c 136:* rwm", "b 8:* rm"]);
}

#[test]
fn bad_rules_are_named() {
    let c = LinuxDeviceType::C;
    for bad in [
        rule(true, c, Some(1 << 40), None, "r"),
        rule(true, c, Some(-2), None, "r"),
        rule(true, c, None, None, "rx"),
        rule(true, LinuxDeviceType::P, None, None, "r"),
    ] {
        let error = Policy::new(&[rule(false, LinuxDeviceType::A, None, None, ""), bad]).unwrap_err();
        assert!(error.to_string().starts_with("linux.resources.devices[1]: "), "{error}");
    }
}

/// What the kernel would do with the program: the few instructions it uses.
fn run(program: &[bpf::Insn], kind: DeviceKind, major: u32, minor: u32, access: Access) -> bool {
    let kind = if kind == DeviceKind::Block { 1 } else { 2 };
    let context = [access.bits() << 16 | kind, major, minor];
    let mut r = [0u64; 11];
    let mut pc = 0usize;
    loop {
        let i = program[pc];
        let (d, s, imm) = (usize::from(i.dst), usize::from(i.src), i.imm.cast_unsigned());
        pc += 1;
        let jump = match i.code {
            0x61 => {
                r[d] = context[i.off as usize / 4].into();
                false
            }
            0xb7 => {
                r[d] = i.imm as u64;
                false
            }
            0xbc => {
                r[d] = r[s] & 0xffff_ffff;
                false
            }
            0x54 => {
                r[d] = u64::from(r[d] as u32 & imm);
                false
            }
            0x74 => {
                r[d] = u64::from(r[d] as u32 >> imm);
                false
            }
            0x55 => r[d] != i.imm as u64,
            0x56 => r[d] as u32 != imm,
            0x16 => r[d] as u32 == imm,
            0x95 => return r[0] == 1,
            code => panic!("instruction {code:#x}"),
        };
        if jump {
            pc += i.off as usize;
        }
    }
}

fn any_rule() -> impl Strategy<Value = LinuxDeviceCgroup> {
    let typ = prop_oneof![Just(LinuxDeviceType::A), Just(LinuxDeviceType::B), Just(LinuxDeviceType::C)];
    let number = prop_oneof![Just(None), (0i64..3).prop_map(Some)];
    (any::<bool>(), typ, number.clone(), number, "[rwm]{0,3}")
        .prop_map(|(allow, typ, major, minor, access)| rule(allow, typ, major, minor, &access))
}

proptest! {
    #[test]
    fn the_program_decides_as_the_policy_does(
        rules in prop::collection::vec(any_rule(), 0..12),
        block: bool, major in 0u32..4, minor in 0u32..4, bits in 1u8..8,
    ) {
        let p = Policy::new(&rules).unwrap();
        let kind = if block { DeviceKind::Block } else { DeviceKind::Char };
        let access = Access { mknod: bits & 1 != 0, read: bits & 2 != 0, write: bits & 4 != 0 };
        prop_assert_eq!(run(&compile(&p), kind, major, minor, access), p.allows(kind, major, minor, access));
    }
}

#[test]
fn only_rights_that_are_too_many_are_taken() {
    let now = ["c 1:3 rwm", "c 1:5 rw", "b 8:0 r", "c 136:* rwm"];
    let wanted = ["c 1:3 r", "c 1:3 m", "c 1:5 rw", "c 10:200 rwm", "c 136:* rm"].map(str::to_owned);
    assert_eq!(surplus(&now, &wanted), ["c 1:3 w", "b 8:0 r", "c 136:* w"]);
    assert_eq!(surplus(&now, &now.map(str::to_owned)), Vec::<String>::new());
}

#[test]
fn an_access_of_a_is_none() {
    let typ = LinuxDeviceType::C;
    let policy = |access| Policy::new(&[rule(true, typ, Some(1), Some(11), access)]);
    assert_eq!(policy("rwa").unwrap(), policy("rw").unwrap());
    assert!(policy("rwx").is_err());
}
