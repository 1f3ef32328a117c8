//! Which namespace holds which blobs.

use std::collections::HashMap;
use std::time::Duration;

use ashlar_model::cas::CasDigest;
use ashlar_model::executor::BoxFuture;
use bytes::Bytes;

use super::super::answer;
use super::super::keys::{self, Tag};
use super::super::request::Request;
use super::{RedisIndex, scripts};
use crate::blob_store::is_empty_blob;
use crate::fault::Fault;
use crate::possession::Possession;

/// How often the name of a namespace is written that holds something.
pub(super) const NAMED: Duration = Duration::from_secs(60);

/// How long a name is known that is not written any more.
const NAME_LIVES: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Sums of more namespaces than these are not all read, but those of some tags first.
const MANY: u64 = 20_000;

/// Of every so many tags the sums are read to find the largest of many namespaces.
const SAMPLE: u8 = 16;

impl RedisIndex {
    /// Lets a namespace have its name, without which its sum says nothing.
    async fn name(&self, namespace: &str) -> Result<(), Fault> {
        if self.named.due([namespace]).is_empty() {
            return Ok(());
        }
        let key = self.redis.keys.namespace(&keys::namespace(namespace));
        let name = Request::command("SET", &key)
            .arg(namespace.to_owned())
            .arg("EX")
            .number(NAME_LIVES.as_secs());
        let named = self.redis.one("hold", name).await;
        if named.is_err() {
            self.named.undo([namespace]);
        }
        named.map(drop)
    }

    /// The sums of all namespaces, over these tags.
    async fn sums(&self, tags: impl Iterator<Item = Tag>) -> Result<HashMap<Bytes, u64>, Fault> {
        let questions = tags.map(|tag| Request::command("HGETALL", &self.redis.keys.sums(tag)));
        let answers = self.redis.call("sums", questions.collect()).await?;
        let mut sums: HashMap<Bytes, u64> = HashMap::new();
        for answer in answers {
            let mut values = answer::array(answer)?.into_iter();
            while let (Some(field), Some(value)) = (values.next(), values.next()) {
                let field = answer::bytes(field)?.unwrap_or_default();
                // The others are not about namespaces.
                if field.len() > 1 {
                    *sums.entry(field).or_default() += answer::count(&value)?;
                }
            }
        }
        Ok(sums)
    }

    /// Whether there are so many sums that reading all of them would hold up others.
    async fn are_many(&self) -> Result<bool, Fault> {
        let lengths = Tag::all().map(|tag| Request::command("HLEN", &self.redis.keys.sums(tag)));
        let lengths = self.redis.call("sums", lengths.collect()).await?;
        let lengths = lengths.iter().map(answer::count);
        Ok(lengths.sum::<Result<u64, _>>()? > MANY)
    }

    /// The bytes of namespaces, over all tags.
    async fn bytes_of(&self, ids: &[Bytes]) -> Result<Vec<u64>, Fault> {
        let questions = Tag::all().map(|tag| {
            let mut question = Request::command("HMGET", &self.redis.keys.sums(tag));
            for id in ids {
                question.push(id.clone());
            }
            question
        });
        let answers = self.redis.call("sums", questions.collect()).await?;
        let mut sums = vec![0; ids.len()];
        for answer in answers {
            for (sum, value) in sums.iter_mut().zip(answer::array(answer)?) {
                *sum += answer::count(&value)?;
            }
        }
        Ok(sums)
    }
}

impl Possession for RedisIndex {
    fn held<'a>(
        &'a self,
        namespaces: &'a [String],
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<bool>, Fault>> {
        Box::pin(async move {
            let ids: Vec<_> = namespaces
                .iter()
                .map(|namespace| Bytes::copy_from_slice(&keys::namespace(namespace)))
                .collect();
            let mut held = self.are_held(blobs, &ids).await?;
            for (is_held, blob) in held.iter_mut().zip(blobs) {
                *is_held |= is_empty_blob(blob);
            }
            Ok(held)
        })
    }

    fn note<'a>(
        &'a self,
        namespace: &'a str,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            if blobs.is_empty() {
                return Ok(());
            }
            self.name(namespace).await?;
            let id = keys::namespace(namespace);
            let argument =
                |request: &mut Request, blob: &CasDigest| request.push(blob.size.to_string());
            let holds = self.by_tags(&scripts::HOLD, blobs, |blob| blob, Some(&id), argument);
            self.redis.call("hold", holds).await?;
            Ok(())
        })
    }

    fn bytes<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Result<u64, Fault>> {
        Box::pin(async move {
            let id = Bytes::copy_from_slice(&keys::namespace(namespace));
            let sums = self.bytes_of(&[id]).await?;
            Ok(sums.into_iter().sum())
        })
    }

    fn largest(&self, most: usize) -> BoxFuture<'_, Result<Vec<(String, u64)>, Fault>> {
        Box::pin(async move {
            let are_many = self.are_many().await?;
            let sums = if are_many {
                // Blobs are spread evenly: whoever has much has much of it here.
                let sample = (0..=u8::MAX).step_by(SAMPLE.into()).map(Tag::Of);
                self.sums(sample).await?
            } else {
                self.sums(Tag::all()).await?
            };
            let mut largest: Vec<_> = sums.into_iter().collect();
            largest.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            largest.truncate(most);
            let (ids, mut bytes): (Vec<_>, Vec<_>) = largest.into_iter().unzip();
            if ids.is_empty() {
                return Ok(Vec::new());
            }
            if are_many {
                bytes = self.bytes_of(&ids).await?;
            }
            let names = ids
                .iter()
                .map(|id| Request::command("GET", &self.redis.keys.namespace(id)));
            let names = self.redis.call("sums", names.collect()).await?;
            let mut named = Vec::with_capacity(ids.len());
            for (name, bytes) in names.into_iter().zip(bytes) {
                // One without a name gets it with the next blob.
                if let Some(name) = answer::bytes(name)? {
                    named.push((String::from_utf8_lossy(&name).into_owned(), bytes));
                }
            }
            named.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            Ok(named)
        })
    }

    fn implies_presence(&self) -> bool {
        true
    }
}
