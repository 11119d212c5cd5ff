//! Runs the program as a person does, in a folder of its own, and looks at what it prints, returns and leaves behind.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use regrow::random::{Purpose, below, words};
use serde_json::Value;

/// A model so small that an epoch takes milliseconds; P@1 on the data of [`Place::synth`] still comes to about 70.
pub const TINY: &str = "\
[encoder]
dim = 16
dropout = 0.1
[classifier]
fan_in = 4
bias_init = -4.0
[rewire]
interval = 10
[optimizer.encoder]
lr = 0.05
warmup_steps = 10
[optimizer.classifier]
lr = 0.05
warmup_steps = 10
[train]
batch_size = 16
epochs = 3
";

/// A folder in which the program runs; names in it are relative. It goes when this goes.
pub struct Place {
    folder: tempfile::TempDir,
}

/// How a call of the program ended.
pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Done {
    fn new(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program prints UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// The lines on standard output, each of them JSON.
    pub fn json_lines(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.out.lines().map(parse).collect()
    }
}

/// Every file below a folder, except token caches; a folder is an entry that ends in `/`.
pub type Snapshot = BTreeMap<String, Vec<u8>>;

impl Place {
    /// With `tiny.toml`, and nothing else.
    pub fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        place.write("tiny.toml", TINY);
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("creating a folder");
        fs::write(path, contents).expect("writing a file");
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).expect("UTF-8")
    }

    /// The folder `data`: 60 labels; 400 training, 40 dev and 200 test documents.
    pub fn synth(&self) {
        self.ok(&[
            "synth",
            "data",
            "--labels",
            "60",
            "--docs",
            "400",
            "--dev-docs",
            "40",
            "--test-docs",
            "200",
        ]);
    }

    /// A call that has not begun. `bash` before the program's own arguments may set limits; see [`Place::limited`].
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_regrow"));
        command.args(arguments);
        self.settle(&mut command);
        command
    }

    /// A call whose files may not grow beyond so many KiB, as on a full disk: writing fails, nothing kills it.
    pub fn limited(&self, kibibytes: u32, arguments: &[&str]) -> Done {
        let mut command = Command::new("bash");
        let script = format!("trap '' XFSZ; ulimit -f {kibibytes}; exec \"$@\"");
        command.args(["-c", &script, "bash", env!("CARGO_BIN_EXE_regrow")]).args(arguments);
        self.settle(&mut command);
        Done::new(command.output().expect("bash runs"))
    }

    fn settle(&self, command: &mut Command) {
        command.current_dir(self.folder.path()).stdin(Stdio::null()).env("REGROW_CACHE", self.path("cache"));
        // Mesa's layer that sorts adapters asks a display that is not there.
        command.env("NODEVICE_SELECT", "1");
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Done {
        Done::new(self.command(arguments).output().expect("the program runs"))
    }

    /// Runs the program with this standard input.
    pub fn run_with(&self, input: &str, arguments: &[&str]) -> Done {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        let mut pipe = child.stdin.take().expect("a pipe");
        let input = input.to_owned();
        // It may end before it has read everything.
        let writer = std::thread::spawn(move || drop(pipe.write_all(input.as_bytes())));
        let done = Done::new(child.wait_with_output().expect("the program ends"));
        writer.join().expect("the writer ends");
        done
    }

    /// Runs the program, which must succeed.
    pub fn ok(&self, arguments: &[&str]) -> Done {
        succeeded(self.run(arguments), arguments)
    }

    /// `regrow train tiny.toml --data data --out RUN` on the CPU, or with a `--data` in `more`; must succeed.
    pub fn train(&self, run: &str, more: &[&str]) -> Done {
        let data: &[&str] = if more.contains(&"--data") { &[] } else { &["--data", "data"] };
        self.ok(&[&["train", "tiny.toml", "--out", run, "--device", "cpu"], data, more].concat())
    }

    /// Starts the training of [`Place::train`] in the background.
    pub fn start(&self, run: &str, more: &[&str]) -> Child {
        let fixed = ["train", "tiny.toml", "--data", "data", "--out", run, "--device", "cpu"];
        let mut command = self.command(&[&fixed, more].concat());
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program runs")
    }

    /// A run that is stopped by `stop` once it has written its first model and checkpoint; `stop` is told the child.
    /// Where the whole run was faster than this test, it is started anew.
    pub fn stopped(&self, run: &str, more: &[&str], mut stop: impl FnMut(&mut Child)) -> Done {
        for attempt in 0..10 {
            let fresh: &[&str] = if attempt > 0 { &["--fresh"] } else { &[] };
            let mut child = self.start(run, &[more, fresh].concat());
            let files =
                ["model/model.safetensors", "checkpoint.safetensors"].map(|name| self.path(run).join(name));
            wait_until(&mut child, || files.iter().all(|file| file.is_file()));
            stop(&mut child);
            let done = Done::new(child.wait_with_output().expect("the program ends"));
            if done.code != Some(0) {
                return done;
            }
        }
        panic!("the run always ended before it was stopped");
    }

    /// Runs the program, which must fail with this code and one line that names all of `what`, and must change nothing
    /// in the whole place, token caches aside.
    #[track_caller]
    pub fn fails(&self, arguments: &[&str], code: i32, what: &[&str]) -> Done {
        let before = self.snapshot("");
        let done = self.run(arguments);
        failed(&done, code, what);
        assert!(done.out.is_empty(), "a failed call printed {}", done.out);
        assert_same(&before, &self.snapshot(""));
        done
    }

    /// As [`Place::fails`] for what shows only when the run folder is there: nothing that was there before changes.
    #[track_caller]
    pub fn fails_after_start(&self, arguments: &[&str], code: i32, what: &[&str]) -> Done {
        let before = self.snapshot("");
        let done = self.run(arguments);
        failed(&done, code, what);
        let mut after = self.snapshot("");
        after.retain(|name, _| before.contains_key(name));
        assert_same(&before, &after);
        done
    }

    pub fn snapshot(&self, name: &str) -> Snapshot {
        let mut files = Snapshot::new();
        let root = self.path(name);
        collect(&root, &root, &mut files);
        files
    }

    /// The lines of a run's metrics.jsonl, without those entries that a clock decides.
    pub fn metrics(&self, run: &str) -> Vec<Value> {
        let text = self.text(&format!("{run}/metrics.jsonl"));
        let parse = |line: &str| {
            let mut line: Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let object = line.as_object_mut().expect("a line is an object");
            object.retain(|key, _| key != "seconds" && key != "documents_per_second");
            line
        };
        text.lines().map(parse).collect()
    }

    /// The lines of a run's metrics.jsonl that end an epoch.
    pub fn epochs(&self, run: &str) -> Vec<Value> {
        self.metrics(run).into_iter().filter(|line| line["event"] == "epoch").collect()
    }

    /// Files that must be the same, byte for byte, when two runs computed the same.
    pub fn trained(&self, run: &str) -> Snapshot {
        let whole = self.snapshot(run);
        let kept = whole.into_iter().filter(|(name, _)| name.ends_with(".safetensors"));
        let kept: Snapshot = kept.collect();
        assert!(kept.len() >= 2, "{run}: no checkpoint or no model among {:?}", kept.keys());
        kept
    }

    /// The device that GPU tests run on: the first adapter, software included.
    pub fn first_adapter(&self) -> &'static str {
        let listed = self.ok(&["devices", "--json"]).json_lines();
        let adapters = listed[0]["adapters"].as_array().expect("a list of adapters");
        assert!(
            !adapters.is_empty(),
            "this test needs a GPU driver; software will do: apt-get install libvulkan1 mesa-vulkan-drivers"
        );
        "0"
    }
}

fn succeeded(done: Done, arguments: &[&str]) -> Done {
    assert_eq!(done.code, Some(0), "regrow {}: {}", arguments.join(" "), done.err);
    done
}

/// The call failed with this code, and its last line, the only one that begins with `regrow: `, names all of `what`.
#[track_caller]
pub fn failed(done: &Done, code: i32, what: &[&str]) {
    assert_eq!(done.code, Some(code), "{}", done.err);
    assert!(!done.err.contains("panicked"), "{}", done.err);
    let said = done.err.lines().filter(|line| line.starts_with("regrow: ")).count();
    let last = done.err.lines().last().unwrap_or_default();
    assert!(said == 1 && last.starts_with("regrow: "), "not one last line of the program: {}", done.err);
    for part in what {
        assert!(last.contains(part), "`{part}` is not in: {last}");
    }
}

/// Two snapshots have the same files with the same bytes; says which differ, not how.
#[track_caller]
pub fn assert_same(a: &Snapshot, b: &Snapshot) {
    let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let differ: Vec<&&String> = names.iter().filter(|name| a.get(**name) != b.get(**name)).collect();
    assert!(differ.is_empty(), "these differ or are only on one side: {differ:?}");
}

fn collect(root: &Path, folder: &Path, files: &mut Snapshot) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        let name = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
        if name == "cache" {
            continue;
        }
        if path.is_dir() {
            files.insert(name + "/", Vec::new());
            collect(root, &path, files);
        } else {
            files.insert(name, fs::read(&path).expect("a readable file"));
        }
    }
}

/// A number below `limit` that looks random and is the same in each run of the test.
pub fn pseudo_random(number: u32, limit: u32) -> u32 {
    below(words(99, Purpose::Shuffle, 0, number, 0)[0], limit)
}

/// When the file was written last; none if it is not there.
pub fn written(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|meta| meta.modified()).ok()
}

/// Waits until `ready` or until the child has ended; false for the latter.
pub fn wait_until(child: &mut Child, mut ready: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    loop {
        if ready() {
            return true;
        }
        if child.try_wait().expect("the child's state").is_some() {
            return false;
        }
        assert!(began.elapsed() < Duration::from_secs(300), "nothing happened for five minutes");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Presses Ctrl-C for a child.
pub fn interrupt(child: &Child) {
    signal(child, "INT");
}

/// Sends a child a signal, such as `TERM`.
pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("bash").args(["-c", &format!("kill -{name} {}", child.id())]).status();
    assert!(sent.expect("bash runs").success(), "the signal was not sent");
}
