//! Results that other machines share: what the scheduler asks a cache service for, and tells it.
//!
//! The cache never fails a build. So nothing here returns an error: whoever implements
//! [`SharedResults`] warns once, stops asking a service that does not answer, and says "not found"
//! meanwhile.

use std::fmt;

use ashlar_model::digest::{ContentKey, DefinitionKey, InstructionKey, LayerId};
use ashlar_model::executor::BoxFuture;
use ashlar_store::home::results::Word;

/// What many keys gave. What was found by definition key is in the local store already: each
/// result, and the records of its layers, whose files stay where they are until something needs
/// them. The scheduler finds them there as it finds what was made here.
#[derive(Debug, Clone, Default)]
pub struct Probed {
    /// Definition keys that have a result.
    pub definitions: Vec<DefinitionKey>,
    /// Instructions that ever ran anywhere, so that a content key may have a result.
    pub instructions: Vec<InstructionKey>,
}

/// What was found by a content key.
#[derive(Debug, Clone)]
pub struct FoundLayer {
    /// The layer, whose record is in the local store.
    pub layer: LayerId,
    /// Whose word it is.
    pub word: Word,
}

/// A key under which a result of the local store was found.
#[derive(Debug, Clone, Copy)]
pub enum ResultKey<'a> {
    /// What the step is defined as.
    Definition(&'a DefinitionKey),
    /// What its inputs contain.
    Content(&'a ContentKey),
}

/// What a build thinks of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belief {
    /// It was made here, or somebody has signed it whose signature is demanded.
    Proven,
    /// It is used, for nothing is demanded; but nobody here would swear to it.
    Taken,
    /// It is none: the step is looked up elsewhere, and run.
    Refused,
}

/// A result that is here.
#[derive(Debug, Clone)]
pub struct MadeResult {
    /// The step as people read it.
    pub name: String,
    /// Its definition key.
    pub definition: DefinitionKey,
    /// What it does.
    pub instruction: InstructionKey,
    /// Its content key; `None` where nobody had to know it, since the result was found.
    pub content: Option<ContentKey>,
    /// The filesystem that it gave, bottom first; the last layer is the step's own.
    pub stack: Vec<LayerId>,
    /// Which of these layers steps have made; the others came with images.
    pub made: Vec<bool>,
    /// Whose word it is. Only what is this machine's own may be signed here.
    pub word: Word,
    /// Whether it takes the place of what a cache has: that cannot be right, or the build uses
    /// nothing old, and whoever asked for that wants others to have what is new.
    pub replaces: bool,
}

/// Leave to run a step that no other machine runs meanwhile. It is given back when it is dropped.
pub trait StepLease: Send + Sync + fmt::Debug {}

/// What came of asking for leave.
#[derive(Debug)]
pub enum Leave {
    /// This machine runs the step. `None` where nobody keeps order.
    Run(Option<Box<dyn StepLease>>),
    /// Another machine has run it meanwhile: its result is in the local store, under its
    /// definition key. Where it is not after all, the scheduler runs the step without leave.
    Made,
}

/// Receives who runs a step that this machine waits for, as people read it.
pub type WaitingSink<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// Results of other machines.
///
/// A build asks as follows. If what is wanted is in the local store, it asks nothing. Otherwise it
/// calls [`probe`](Self::probe) once, with all keys that the local store lacks (and once more
/// after layers turned out to be lost). Each step that is missing then is looked up
/// [`by_content`](Self::by_content) if its instruction is among [`Probed::instructions`]; what is
/// found neither way is run, with [`leave`](Self::leave), and [published](Self::publish). A build
/// that uses nothing old only publishes.
pub trait SharedResults: Send + Sync + fmt::Debug {
    /// Looks many keys up at once, the most wanted first: each key before those of the steps that
    /// it stands on. An instruction is reported if it ever ran anywhere.
    fn probe<'a>(
        &'a self,
        definitions: &'a [DefinitionKey],
        instructions: &'a [InstructionKey],
    ) -> BoxFuture<'a, Probed>;

    /// Looks one step up by what its inputs contain. The scheduler stores the result.
    fn by_content<'a>(&'a self, key: &'a ContentKey) -> BoxFuture<'a, Option<FoundLayer>>;

    /// What to think of a result of the local store that is not this machine's own.
    fn belief(&self, key: ResultKey<'_>, word: &Word) -> Belief;

    /// Why a result that a cache has of a step was passed over, as people read it.
    fn refusal(&self, definition: &DefinitionKey) -> Option<String>;

    /// Whether nothing is believed without proof. Then a layer of which only others say what it
    /// contains is not kept in place of one that was made here.
    fn demands_proof(&self) -> bool;

    /// Asks for leave to run a step, and waits while another machine runs it. `waiting` is called
    /// as soon as it is known that there is somebody to wait for, and when that changes. Dropping
    /// the future ends the waiting.
    fn leave<'a>(
        &'a self,
        definition: &'a DefinitionKey,
        name: &'a str,
        waiting: WaitingSink<'a>,
    ) -> BoxFuture<'a, Leave>;

    /// Takes a result over that was made here or put together from what other steps gave, to send
    /// it behind the build. `lease` is given back when the result has arrived, or will not.
    fn publish(&self, result: MadeResult, lease: Option<Box<dyn StepLease>>);

    /// Whether a result that was found in the local store should be [offered](Self::offer): it may
    /// have been made before the cache was there. Asked of every result that a build stands on,
    /// also in a build that has nothing to do, so it must cost no more than a look at a file: what
    /// came from a cache, or was sent to it before, is not wanted.
    fn wants(&self, definition: &DefinitionKey) -> bool;

    /// Takes a result over that was found in the local store, to send it behind the build where it
    /// is lacking.
    fn offer(&self, result: MadeResult);

    /// Those of some layers whose files are nowhere any more. Asked once a layer turned out to be
    /// lost: what vanishes rarely vanishes alone.
    fn lost<'a>(&'a self, layers: &'a [LayerId]) -> BoxFuture<'a, Vec<LayerId>>;

    /// Tells that the files of some layers are nowhere to be had. Until the build ends, no result
    /// that names one of them is found, adopted or waited for any more, and one that is published
    /// takes the place of what the cache has.
    fn distrust(&self, layers: &[LayerId]);
}
