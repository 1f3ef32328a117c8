//! Every instruction does what it says.

mod add_archives;
mod add_remote;
mod copy;
mod copy_filters;
mod copy_link;
mod copy_rules;
mod epoch;
mod idioms;
mod language;
mod metadata;
mod run;
mod run_caches;
mod run_mounts;
mod run_rights;
pub(crate) mod run_secrets;
mod variables;

use ashlar_test_support::bases;
use ashlar_test_support::context::Context;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::user::TestUser;

/// The start of a Dockerfile for steps that need a shell. The user with one id gets a busybox
/// whose every file is root's: that of the tests has an owner more.
fn busybox_of(home: &TestHome, context: &Context) -> String {
    match home.user() {
        TestUser::One => {
            let busybox = std::fs::read("/bin/busybox").expect("there is no busybox");
            context.file("busybox", busybox).mode("busybox", 0o755);
            "FROM scratch\nCOPY busybox /bin/busybox\n\
             RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n"
                .to_owned()
        }
        _ => bases::busybox().dockerfile(""),
    }
}
