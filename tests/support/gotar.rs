//! Go's `archive/tar` as the reference: builds and runs `tests/support/gotar`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, thread};

use tocsin_core::tar::Purpose;

/// The compiled program.
pub(crate) struct GoTar {
    go: PathBuf,
    program: PathBuf,
}

impl GoTar {
    /// Builds the program; `None` if Go is not installed.
    pub(crate) fn build() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gotar");
        let go = find_go()?;
        let built = Command::new(&go)
            .args(["build", "-buildvcs=false", "-o"])
            .arg(&program)
            .arg(".")
            .current_dir(root.join("tests/support/gotar"))
            .status()
            .expect("go starts");
        assert!(built.success(), "go build of tests/support/gotar failed");
        Some(Self { go, program })
    }

    /// The archives of Go's own tests, if its sources are installed, except huge ones.
    pub(crate) fn own_test_archives(&self) -> Vec<(String, Vec<u8>)> {
        let output = Command::new(&self.go).args(["env", "GOROOT"]).output().expect("go starts");
        let root = String::from_utf8(output.stdout).expect("a path");
        let Ok(files) = fs::read_dir(Path::new(root.trim()).join("src/archive/tar/testdata"))
        else {
            return Vec::new();
        };
        let files = files.map_while(Result::ok).map(|file| file.path());
        let archives = files.filter(|path| path.extension().is_some_and(|kind| kind == "tar"));
        archives
            .filter_map(|path| Some((path.display().to_string(), fs::read(&path).ok()?)))
            .filter(|(_, archive)| archive.len() < 4 << 20)
            .collect()
    }

    /// Go's verdict on each archive, read for `purpose`.
    pub(crate) fn judge(&self, archives: &[Vec<u8>], purpose: Purpose) -> Vec<String> {
        let mut child = Command::new(&self.program)
            .arg(match purpose {
                Purpose::Index => "index",
                Purpose::Read => "read",
                Purpose::Archive => "archive",
            })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("gotar starts");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let output = thread::scope(|scope| {
            scope.spawn(move || {
                for archive in archives {
                    stdin.write_all(&(archive.len() as u64).to_le_bytes()).expect("gotar reads");
                    stdin.write_all(archive).expect("gotar reads");
                }
            });
            child.wait_with_output().expect("gotar runs")
        });
        assert!(output.status.success(), "gotar failed");
        let text = String::from_utf8(output.stdout).expect("gotar writes text");
        let mut verdicts = vec![String::new()];
        for line in text.split_inclusive('\n') {
            verdicts.last_mut().expect("never empty").push_str(line);
            if line.starts_with("end ") || line == "error\n" {
                verdicts.push(String::new());
            }
        }
        verdicts.pop();
        assert_eq!(verdicts.len(), archives.len(), "one verdict per archive");
        // Ignore entries before an error.
        verdicts
            .into_iter()
            .map(|v| if v.ends_with("error\n") { "error\n".into() } else { v })
            .collect()
    }
}

fn find_go() -> Option<PathBuf> {
    let usual = env::var_os("PATH")?;
    let mut directories: Vec<PathBuf> = env::split_paths(&usual).collect();
    directories.push("/usr/local/go/bin".into());
    directories.into_iter().map(|directory| directory.join("go")).find(|go| go.is_file())
}
