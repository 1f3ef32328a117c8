use super::super::recording::Recording;
use super::*;

fn recording(columns: usize, rows: usize) -> Recording {
    Recording::new(move |out| Box::new(Tty::new(out, Screen::Fixed(columns, rows), false)))
}

/// Plays what was written to a terminal of so many columns, and gives its lines.
fn on_screen(written: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<Vec<char>> = vec![Vec::new()];
    let (mut row, mut column) = (0_usize, 0_usize);
    let mut characters = written.chars();
    while let Some(character) = characters.next() {
        match character {
            '\n' => {
                row += 1;
                column = 0;
                if lines.len() == row {
                    lines.push(Vec::new());
                }
            }
            '\r' => column = 0,
            '\x1b' => {
                assert_eq!(characters.next(), Some('['));
                let mut number = String::new();
                let command = loop {
                    match characters.next().unwrap() {
                        digit @ '0'..='9' => number.push(digit),
                        command => break command,
                    }
                };
                match command {
                    'A' => row -= number.parse::<usize>().unwrap(),
                    'K' => lines[row].truncate(column),
                    'J' => {
                        lines[row].truncate(column);
                        lines.truncate(row + 1);
                    }
                    other => panic!("unexpected escape sequence {other}"),
                }
            }
            character => {
                if column == columns {
                    panic!("line runs over the edge: {lines:?}");
                }
                let length = lines[row].len().max(column + 1);
                lines[row].resize(length, ' ');
                lines[row][column] = character;
                column += 1;
            }
        }
    }
    let text = lines.into_iter().map(|line| line.into_iter().collect());
    text.collect()
}

#[test]
fn running_steps_are_redrawn_and_finished_ones_scroll() {
    let mut build = recording(60, 24);
    build.announce(1, "[1/3] FROM debian");
    build.announce(2, "[2/3] RUN make");
    build.announce(3, "[3/3] RUN test");
    build.cached(1);
    build.at(1.0).started(2);
    build.at(1.05).stdout(2, b"one\ntwo\nthr");
    build.at(3.55);
    assert_eq!(
        on_screen(&build.written().0, 60),
        [
            " => CACHED [1/3] FROM debian                           0.0s",
            "[+] Building 3.5s (1/3)",
            " => [2/3] RUN make                                     2.5s",
            " => => # one",
            " => => # two",
            " => => # thr",
            "",
        ]
    );
    build.at(4.0).finished(2, 3.0);
    build.started(3);
    build.at(5.2).failed(3, 1.2, "exit code: 1");
    assert_eq!(
        on_screen(&build.finish(), 60),
        [
            " => CACHED [1/3] FROM debian                           0.0s",
            " => [2/3] RUN make                                     3.0s",
            " => ERROR [3/3] RUN test                               1.2s",
            "[+] Building 5.2s (3/3) FAILED",
            "",
        ]
    );
}

#[test]
fn a_frame_is_one_write_ten_times_a_second() {
    let mut build = recording(80, 24);
    build.announce(1, "RUN sleep");
    build.started(1);
    for number in 0..1000 {
        build
            .at(f64::from(number) / 1000.0)
            .stdout(1, format!("{number}\n").as_bytes());
    }
    let writes = build.written().1;
    assert!((9..=11).contains(&writes), "{writes}");
}

#[test]
fn a_cached_build_is_drawn_once_and_needs_no_thread() {
    let mut build = recording(80, 24);
    for vertex in 1..=20 {
        build.announce(vertex, "step");
        build.cached(vertex);
    }
    assert_eq!(build.written().1, 0);
    let text = build.finish();
    assert_eq!(text.matches("CACHED").count(), 20);
    assert!(text.contains("(20/20) FINISHED"), "{text}");
    assert!(!text.contains("\x1b[J"), "{text}");
}

#[test]
fn more_steps_than_rows_are_counted() {
    let mut build = recording(40, 6);
    for vertex in 1..=9 {
        build.announce(vertex, "RUN work");
        build.started(vertex);
        build.stdout(vertex, b"output\n");
    }
    build.at(0.5);
    assert_eq!(
        on_screen(&build.written().0, 40),
        [
            "[+] Building 0.5s (0/9)",
            " => RUN work                       0.5s",
            " => RUN work                       0.5s",
            " => RUN work                       0.5s",
            "    … and 6 more",
            "",
        ]
    );
}

#[test]
fn any_size_of_terminal_will_do() {
    for columns in 1..30 {
        for rows in 1..8 {
            let mut build = recording(columns, rows);
            for vertex in 1..=4 {
                build.announce(vertex, "[stage 1/4] RUN something long enough");
                build.started(vertex);
                build.stdout(vertex, b"a line of output that is long as well\n");
                build.work(vertex, "sha256:0123456789", 5, Some(10));
            }
            build.at(0.5).finished(1, 0.5);
            build.at(0.7);
            let lines = on_screen(&build.written().0, columns);
            assert!(
                lines
                    .iter()
                    .all(|line| line.chars().count() < columns.max(2))
            );
            assert!(lines.len() <= rows + 1, "{columns}x{rows}: {lines:?}");
            on_screen(&build.finish(), columns);
        }
    }
}

#[test]
fn who_is_waited_for_stands_beside_the_step() {
    let mut build = recording(60, 10);
    build.announce(1, "step");
    build.announce(2, "other");
    build.waiting(1, Some("ci-7\x1b[2J"));
    build.at(1.0).waiting(2, None);
    build.at(2.0);
    let screen = on_screen(&build.written().0, 60).join("\n");
    assert!(screen.contains(" => step (waiting for ci-7)"), "{screen}");
    assert!(
        screen.contains(" => other (waiting for another build of it)"),
        "{screen}"
    );
}

#[test]
fn a_narrower_terminal_is_cleared_whole() {
    let mut out = recording(40, 10);
    out.announce(1, "RUN x");
    out.started(1);
    out.at(0.15);
    // Two lines of 23 and 39 columns take three and four rows of ten.
    let mut tty = Tty::new(
        Out::new(Box::new(std::io::sink())),
        Screen::Fixed(10, 10),
        false,
    );
    tty.drawn = vec![23, 39];
    let written = super::super::recording::Written::default();
    tty.out = Out::new(Box::new(written.clone()));
    tty.draw(Duration::ZERO, 10, &[]);
    assert_eq!(written.text(), "\x1b[7A\r\x1b[J");
}

#[test]
fn what_commands_write_cannot_touch_the_screen() {
    let mut build = recording(60, 10);
    build.announce(1, "RUN evil \x1b[2J");
    build.started(1);
    build.stdout(1, b"\x1b[2J\x1b[1;1Hgone\n");
    build.at(0.2);
    let lines = on_screen(&build.written().0, 60);
    assert!(
        lines.iter().any(|line| line == " => => # gone"),
        "{lines:?}"
    );
}

#[test]
fn nothing_happened_nothing_is_drawn() {
    assert_eq!(recording(80, 24).finish(), "");
}

#[test]
fn findings_stand_below_the_last_frame() {
    let mut build = recording(60, 24);
    build.announce(1, "step");
    build.started(1);
    build.finding(4, "platform");
    build.at(1.0).finished(1, 1.0);
    let screen = on_screen(&build.finish(), 60);
    assert!(screen[1].starts_with("[+] Building 1.0s (1/1) FINISHED"));
    assert_eq!(
        screen[2..],
        [
            "",
            " 1 warning found (use --check to expand):",
            " - InvalidBaseImagePlatform: platform (line 4)",
            ""
        ]
    );
}
