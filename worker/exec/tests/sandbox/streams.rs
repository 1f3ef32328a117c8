//! Standard streams other than captured ones.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::time::Duration;

use ashlar_exec::sandbox::Stdio;
use ashlar_model::executor::ExitStatus;
use tokio::sync::oneshot;

use crate::rig::{ALL, Rig};
use crate::{Test, test};

pub(crate) const TESTS: &[Test] = &[
    test!(ALL, streams::files_are_inherited),
    test!(ALL, streams::a_terminal_controls_the_command),
];

pub(crate) fn files_are_inherited(rig: &Rig) {
    let input = rig.directory.join("input");
    std::fs::write(&input, "typed\n").unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let stdio = Stdio::Inherited {
        stdin: File::open(&input).unwrap().into(),
        stdout: writer.try_clone().unwrap().into(),
        stderr: OwnedFd::from(writer),
    };
    let run = rig.helper.run(rig.shell("cat; echo complaint >&2"), stdio);
    assert_eq!(rig.runtime.block_on(run).unwrap(), ExitStatus::Code(0));
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "typed\ncomplaint\n");
}

pub(crate) fn a_terminal_controls_the_command(rig: &Rig) {
    let (sender, receiver) = oneshot::channel();
    let spec = rig.shell("tty; stty size; test -e /dev/console && echo console; read line; echo \"got $line\"; exec sleep 60");
    let run = rig.helper.run(
        spec,
        Stdio::Terminal {
            rows: 33,
            columns: 101,
            master: sender,
        },
    );
    let typing = async {
        let mut master = File::from(receiver.await.unwrap());
        tokio::task::spawn_blocking(move || {
            master.write_all(b"words\n").unwrap();
            let mut text = String::new();
            let mut buffer = [0; 256];
            while !text.contains("got words") {
                let length = master.read(&mut buffer).unwrap();
                text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
            }
            // The terminal turns ^C into a signal to its foreground process: the command.
            std::thread::sleep(Duration::from_millis(100));
            master.write_all(b"\x03").unwrap();
            // Closing it now would hang up before the ^C is through.
            (text, master)
        })
        .await
        .unwrap()
    };
    let (status, (text, _master)) = rig.runtime.block_on(async { tokio::join!(run, typing) });
    assert_eq!(status.unwrap(), ExitStatus::Signal(2));
    for expected in ["/dev/pts/0", "33 101", "console", "got words"] {
        assert!(text.contains(expected), "{text}");
    }
}
