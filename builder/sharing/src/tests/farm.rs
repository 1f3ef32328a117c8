//! Several servers as one cache: one of them goes, or hangs, and nobody notices.

use std::path::PathBuf;

use ashlar_engine::share::Leave;
use ashlar_store::task::{Task, spawn};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::grpc::{Served, machine_of};
use super::*;

/// What a way does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// It takes connections and bytes, and gives none.
    Hanging,
    /// It takes no connections, and those that were there break.
    Cut,
}

/// A way to the server that looks like a server of its own: all have the same stores behind them.
struct Way {
    address: String,
    state: watch::Sender<State>,
    _task: Task<()>,
}

impl Way {
    async fn to(server: &Served) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (state, seen) = watch::channel(State::Open);
        let task = spawn(lead(listener, server.socket(), seen));
        Self {
            address,
            state,
            _task: task,
        }
    }

    fn set(&self, state: State) {
        self.state.send_replace(state);
    }
}

async fn lead(listener: TcpListener, socket: PathBuf, state: watch::Receiver<State>) {
    let mut connections = JoinSet::new();
    let mut cut = state.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = cut.wait_for(|state| *state == State::Cut) => return,
        };
        let (mut client, _) = accepted.unwrap();
        let (socket, mut state) = (socket.clone(), state.clone());
        connections.spawn(async move {
            let mut server = UnixStream::connect(&socket).await.unwrap();
            let is_open = *state.borrow() == State::Open;
            if is_open {
                tokio::select! {
                    _ = copy_bidirectional(&mut client, &mut server) => return,
                    _ = state.wait_for(|state| *state != State::Open) => {}
                }
            }
            std::future::pending::<()>().await;
        });
    }
}

async fn ways(server: &Served) -> ([Way; 3], Machine) {
    let ways = [
        Way::to(server).await,
        Way::to(server).await,
        Way::to(server).await,
    ];
    let addresses: Vec<&str> = ways.iter().map(|way| way.address.as_str()).collect();
    let url = format!("grpc://{}", addresses.join("+"));
    let machine = machine_of(&url.parse().unwrap());
    (ways, machine)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_or_hangs_takes_nothing_with_it() {
    for trouble in [State::Cut, State::Hanging] {
        let server = Served::start().await;
        let (ways, a) = ways(&server).await;
        for round in 0..9 {
            // One after the other, and never all of them.
            if round % 3 == 1 {
                ways[round / 3 % 2].set(trouble);
            }
            let name = format!("step {round}");
            let layer = a.make(&tar(&[(name.as_str(), 700_000)], 1));
            a.publish(result(&name, &[layer])).await;
            let found = a.look_up(&[name.as_str()]).await;
            assert!(
                found[0].is_some(),
                "{trouble:?}, {name}: {:?}",
                a.warnings()
            );
        }
        assert!(a.warnings().is_empty(), "{trouble:?}: {:?}", a.warnings());
        assert_eq!(a.sharing.progress().failed, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_step_goes_on_waiting_with_another_server() {
    let server = Served::start().await;
    let (_ways_of_a, a) = ways(&server).await;
    let (ways, b) = ways(&server).await;
    let Leave::Run(Some(lease)) = a.sharing.leave(&key("x"), "step", &|_| {}).await else {
        panic!("nobody else is there");
    };
    let wanted = key("x");
    let (left, ()) = futures::join!(b.sharing.leave(&wanted, "step", &|_| {}), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        ways[0].set(State::Cut);
        ways[1].set(State::Cut);
        tokio::time::sleep(Duration::from_millis(300)).await;
        let layer = a.make(&tar(&[("made", 1000)], 1));
        a.sharing.publish(result("x", &[layer]), Some(lease));
    });
    assert!(matches!(left, Leave::Made), "{left:?}");
    assert!(b.warnings().is_empty(), "{:?}", b.warnings());
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_are_gone_it_is_told_once() {
    let server = Served::start().await;
    let (ways, a) = ways(&server).await;
    for way in &ways {
        way.set(State::Cut);
    }
    for _ in 0..5 {
        assert_eq!(a.look_up(&["x"]).await, [None]);
    }
    assert_eq!(a.warnings().len(), 1, "{:?}", a.warnings());
}
