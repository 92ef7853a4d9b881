//! Platforms, `os/architecture[/variant]`, and which image serves which machine.
//!
//! Spellings and preference order are those of containerd's platforms package.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use wharf_kinds::Kind;

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    #[error("{0:?}: wildcards not yet supported: invalid argument")]
    Wildcard(String),
    #[error(
        "{part:?} is an invalid component of {whole:?}: platform specifier component must match \"^[A-Za-z0-9_.-]+$\": invalid argument"
    )]
    Component { part: String, whole: String },
    #[error("{0:?}: unknown operating system or architecture: invalid argument")]
    Unknown(String),
    #[error("{0:?}: cannot parse platform specifier: invalid argument")]
    Parts(String),
}

impl PlatformError {
    /// Always [`Kind::InvalidArgument`].
    pub const fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

/// What an image is built for, in the image specification's own field names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    #[serde(default, rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    #[serde(default, rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
}

const SYSTEMS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];

const ARCHITECTURES: &[&str] = &[
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "ppc64",
    "ppc64le",
    "loong64",
    "mips",
    "mipsle",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

impl Platform {
    /// This machine: Go's names for the operating system and the processor.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86" => ("386", ""),
            "x86_64" => ("amd64", ""),
            "aarch64" => ("arm64", ""),
            "arm" => ("arm", "v7"),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", ""),
            "powerpc64" => ("ppc64", ""),
            "loongarch64" => ("loong64", ""),
            other => (other, ""),
        };
        Platform {
            os: std::env::consts::OS.into(),
            architecture: architecture.into(),
            variant: variant.into(),
            ..Platform::default()
        }
    }

    /// Reads `linux`, `arm64`, `linux/arm64` or `linux/arm/v7`; what is left out is this machine's.
    pub fn parse(text: &str) -> Result<Self, PlatformError> {
        if text.contains('*') {
            return Err(PlatformError::Wildcard(text.into()));
        }
        let parts: Vec<&str> = text.splitn(4, '/').collect();
        let word =
            |p: &&str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if let Some(part) = parts.iter().find(|p| !word(p)) {
            return Err(PlatformError::Component { part: (*part).into(), whole: text.into() });
        }
        let host = Platform::host();
        let of = |os: String, (architecture, variant): (String, String)| Platform {
            os,
            architecture,
            variant,
            ..Platform::default()
        };
        // v7 is what plain arm means, and is left unsaid; only a spelled-out arm64 variant is kept
        let implied = |(architecture, variant): (String, String)| {
            let variant = if architecture == "arm" && variant == "v7" { String::new() } else { variant };
            (architecture, variant)
        };
        match parts.as_slice() {
            [one] => {
                let os = normal_os(one);
                if SYSTEMS.contains(&os.as_str()) {
                    return Ok(Platform { os, ..host });
                }
                let architecture = implied(normal_architecture(one, ""));
                if ARCHITECTURES.contains(&architecture.0.as_str()) {
                    return Ok(of(host.os, architecture));
                }
                Err(PlatformError::Unknown(text.into()))
            }
            [os, architecture] => Ok(of(normal_os(os), implied(normal_architecture(architecture, "")))),
            [os, architecture, variant] => {
                let (architecture, mut variant) = normal_architecture(architecture, variant);
                if architecture == "arm64" && variant.is_empty() {
                    variant = "v8".into();
                }
                Ok(of(normal_os(os), (architecture, variant)))
            }
            _ => Err(PlatformError::Parts(text.into())),
        }
    }

    /// The one spelling by which platforms are compared.
    #[must_use]
    pub fn normalized(&self) -> Self {
        let (architecture, variant) = normal_architecture(&self.architecture, &self.variant);
        let os = if self.os.is_empty() { Platform::host().os } else { normal_os(&self.os) };
        let mut os_features = self.os_features.clone();
        os_features.sort();
        os_features.dedup();
        Platform { os, architecture, variant, os_version: self.os_version.clone(), os_features }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.os.is_empty() {
            return f.write_str("unknown");
        }
        f.write_str(&self.os)?;
        for part in [&self.architecture, &self.variant] {
            if !part.is_empty() {
                write!(f, "/{part}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Platform {
    type Err = PlatformError;
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        Platform::parse(text)
    }
}

/// Which platforms can run where another was asked for, the best first.
#[derive(Debug, Clone)]
pub struct PlatformMatcher {
    accepted: Vec<Platform>,
}

impl PlatformMatcher {
    /// This platform and what its processors also run: amd64 runs 386, arm/v7 runs v6 and v5, arm64 runs arm.
    pub fn only(platform: &Platform) -> Self {
        PlatformMatcher { accepted: compatible(&platform.normalized()) }
    }

    /// This platform and nothing else.
    pub fn strict(platform: &Platform) -> Self {
        PlatformMatcher { accepted: vec![platform.normalized()] }
    }

    /// How good a candidate is, 0 the best; `None` if it does not run at all.
    pub fn rank(&self, candidate: &Platform) -> Option<usize> {
        let candidate = candidate.normalized();
        self.accepted.iter().position(|p| {
            p.os == candidate.os
                && p.architecture == candidate.architecture
                && p.normalized().variant == candidate.variant
                && candidate.os_features.iter().all(|f| p.os_features.contains(f))
        })
    }

    pub fn matches(&self, candidate: &Platform) -> bool {
        self.rank(candidate).is_some()
    }

    /// The position of the best of several candidates; the earlier wins between equals.
    pub fn best<'a>(&self, candidates: impl IntoIterator<Item = &'a Platform>) -> Option<usize> {
        let ranked = candidates.into_iter().enumerate().filter_map(|(i, p)| Some((self.rank(p)?, i)));
        ranked.min().map(|(_, i)| i)
    }
}

fn compatible(platform: &Platform) -> Vec<Platform> {
    let with = |architecture: &str, variant: String| Platform {
        architecture: architecture.into(),
        variant,
        ..platform.clone()
    };
    let version = platform.variant.trim_start_matches('v').parse::<u32>().unwrap_or(0).min(16);
    let mut accepted = vec![platform.clone()];
    match platform.architecture.as_str() {
        "amd64" => {
            accepted.extend((1..version).rev().map(|v| with("amd64", format!("v{v}"))));
            accepted.push(with("386", String::new()));
        }
        "arm" => accepted.extend((5..version).rev().map(|v| with("arm", format!("v{v}")))),
        "arm64" => {
            accepted.extend(arm64_below(&platform.variant).map(|v| with("arm64", v)));
            accepted.extend((5..=8).rev().map(|v| with("arm", format!("v{v}"))));
        }
        _ => {}
    }
    accepted
}

/// Every arm64 variant that the given one includes: v9.x includes v8.(x+5), each minor the ones before it.
fn arm64_below(variant: &str) -> impl Iterator<Item = String> + use<> {
    let (major, minor) = match variant.trim_start_matches('v').split_once('.') {
        Some((major, minor)) => (major.parse().unwrap_or(8), minor.parse().unwrap_or(0)),
        None => (variant.trim_start_matches('v').parse().unwrap_or(8), 0u32),
    };
    let minor = minor.min(16);
    let spelled = |major: u32, minor: u32| match minor {
        0 => format!("v{major}"),
        _ => format!("v{major}.{minor}"),
    };
    let nine = (major >= 9).then_some(0..=minor).into_iter().flatten().rev().map(move |m| spelled(9, m));
    let eight_top = if major >= 9 { minor + 5 } else { minor };
    nine.chain((0..=eight_top).rev().map(move |m| spelled(8, m)))
}

fn normal_os(os: &str) -> String {
    match os.to_ascii_lowercase().as_str() {
        "macos" => "darwin".into(),
        other => other.to_owned(),
    }
}

fn normal_architecture(architecture: &str, variant: &str) -> (String, String) {
    let variant = variant.to_ascii_lowercase();
    let (architecture, variant) = match architecture.to_ascii_lowercase().as_str() {
        "i386" => ("386".to_owned(), String::new()),
        "x86_64" | "x86-64" | "amd64" => {
            ("amd64".to_owned(), if variant == "v1" { String::new() } else { variant })
        }
        "aarch64" | "arm64" => {
            let variant = match variant.as_str() {
                "8" | "v8" | "v8.0" => String::new(),
                "9" | "9.0" | "v9.0" => "v9".into(),
                _ => variant,
            };
            ("arm64".to_owned(), variant)
        }
        "armhf" => ("arm".to_owned(), "v7".into()),
        "armel" => ("arm".to_owned(), "v6".into()),
        "arm" => {
            let variant = match variant.as_str() {
                "" | "7" => "v7".into(),
                "5" | "6" | "8" => format!("v{variant}"),
                _ => variant,
            };
            ("arm".to_owned(), variant)
        }
        other => (other.to_owned(), variant),
    };
    (architecture, variant)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> Platform {
        Platform::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn spellings_are_brought_to_one() {
        for (text, want) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64/v8"),
            ("linux/armhf", "linux/arm"),
            ("Linux/ARM/7", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("macos/arm64", "darwin/arm64"),
            ("linux/amd64/v1", "linux/amd64"),
        ] {
            assert_eq!(p(text).to_string(), want);
        }
        assert_eq!(p("arm64").os, std::env::consts::OS);
        assert_eq!(p("linux").architecture, Platform::host().architecture);
    }

    #[test]
    fn malformed_platforms_are_refused() {
        for bad in
            ["", "*", "linux/*", "a/b/c/d", "nonsense", "linux/", "/amd64", "linux//v7", "li nux/amd64"]
        {
            assert!(Platform::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_nearest_platform_wins() {
        let arm = PlatformMatcher::only(&p("linux/arm/v7"));
        let offered = [p("linux/amd64"), p("linux/arm/v5"), p("linux/arm/v6"), p("linux/arm64")];
        assert_eq!(arm.best(&offered), Some(2));
        let amd = PlatformMatcher::only(&p("linux/amd64"));
        assert_eq!(amd.best(&offered), Some(0));
        assert_eq!(amd.rank(&p("linux/386")), Some(1));
        assert_eq!(amd.rank(&p("windows/amd64")), None);
        let arm64 = PlatformMatcher::only(&p("linux/arm64"));
        assert!(arm64.matches(&p("linux/arm64/v8")) && arm64.matches(&p("linux/arm/v7")));
        assert!(!PlatformMatcher::strict(&p("linux/arm64")).matches(&p("linux/arm/v7")));
        assert!(PlatformMatcher::only(&p("linux/arm64/v9.1")).matches(&p("linux/arm64/v8.6")));
        assert!(!PlatformMatcher::only(&p("linux/arm64/v9.1")).matches(&p("linux/arm64/v8.7")));
    }
}
