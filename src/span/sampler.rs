//! Sampling: decisions at the start of a span ([`Sampler`]), or for all spans of a trace on a recorder
//! when its local root ends ([`TailSampling`]).

mod ratio;
mod tail;

use std::fmt;
use std::sync::Arc;

use crate::span::attribute::{KeyValue, KeyValueRef};
use crate::span::context::{SpanContext, TraceState};
use crate::span::id::TraceId;
use crate::span::kind::SpanKind;
use crate::span::link::LinkRef;
use crate::span::sampler::ratio::is_chosen;

pub use tail::{KeepIf, TailSampling};

/// A sampler: decides at the start of a span whether it is recorded and sent.
///
/// ```
/// use otlp_collector::span::{ParentBased, Sampler};
/// use otlp_collector::Config;
///
/// // A tenth of the traces that start here. Other traces keep the decision of the caller.
/// let config = Config {
///     sampler: ParentBased::new(Sampler::TraceIdRatio(0.1)).into(),
///     ..Config::default()
/// };
/// # drop(config);
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum Sampler {
    /// Samples every span.
    AlwaysOn,
    /// Samples no span.
    AlwaysOff,
    /// Samples this share of the traces, from 0 to 1, chosen by trace id. `TraceIdRatioBased` of other
    /// SDKs chooses the same traces.
    TraceIdRatio(f64),
    /// Follows the parent's decision. The default, with [`AlwaysOn`](Self::AlwaysOn) for root spans.
    ParentBased(Box<ParentBased>),
    /// A sampler that the program implements.
    Custom(Arc<dyn Sample>),
}

/// A sampler for each kind of parent, for [`Sampler::ParentBased`].
///
/// Build it with struct update syntax, `..ParentBased::new(root)`, which sets the specification's
/// defaults: a minor release may add fields.
#[derive(Clone, Debug, PartialEq)]
pub struct ParentBased {
    /// Sampler for spans without a parent.
    pub root: Sampler,
    /// Sampler for spans whose parent is in another process and sampled. Default: always on.
    pub remote_parent_sampled: Sampler,
    /// Sampler for spans whose parent is in another process and not sampled. Default: always off.
    pub remote_parent_not_sampled: Sampler,
    /// Sampler for spans whose parent is in this process and sampled. Default: always on.
    pub local_parent_sampled: Sampler,
    /// Sampler for spans whose parent is in this process and not sampled. Default: always off.
    pub local_parent_not_sampled: Sampler,
}

impl ParentBased {
    /// Creates a sampler that follows the parent's decision, and asks `root` for spans without a parent.
    #[must_use]
    pub const fn new(root: Sampler) -> Self {
        Self {
            root,
            remote_parent_sampled: Sampler::AlwaysOn,
            remote_parent_not_sampled: Sampler::AlwaysOff,
            local_parent_sampled: Sampler::AlwaysOn,
            local_parent_not_sampled: Sampler::AlwaysOff,
        }
    }

    fn for_parent(&self, parent: Option<ParentKind>) -> &Sampler {
        match parent.map(|parent| (parent.is_remote, parent.is_sampled)) {
            None => &self.root,
            Some((true, true)) => &self.remote_parent_sampled,
            Some((true, false)) => &self.remote_parent_not_sampled,
            Some((false, true)) => &self.local_parent_sampled,
            Some((false, false)) => &self.local_parent_not_sampled,
        }
    }
}

/// The properties of a parent that choose the sampler of its children.
#[derive(Clone, Copy)]
pub(crate) struct ParentKind {
    pub(crate) is_remote: bool,
    pub(crate) is_sampled: bool,
}

impl From<ParentBased> for Sampler {
    fn from(sampler: ParentBased) -> Self {
        Self::ParentBased(Box::new(sampler))
    }
}

/// A sampler that the program implements, for [`Sampler::Custom`]. It runs on the thread that starts the
/// span.
///
/// ```
/// use std::sync::Arc;
/// use otlp_collector::span::{ParentBased, Sample, Sampler, SamplingInput, SamplingResult};
///
/// struct NoHealthChecks;
///
/// impl Sample for NoHealthChecks {
///     fn sample<'s>(&'s self, span: &SamplingInput<'_>) -> SamplingResult<'s> {
///         match span.name {
///             "GET /health" => SamplingResult::dropped(),
///             _ => SamplingResult::sampled(),
///         }
///     }
/// }
///
/// let sampler: Sampler = ParentBased::new(Sampler::Custom(Arc::new(NoHealthChecks))).into();
/// # drop(sampler);
/// ```
pub trait Sample: Send + Sync {
    /// Decides for one span.
    fn sample<'s>(&'s self, span: &SamplingInput<'_>) -> SamplingResult<'s>;

    /// Returns a name with settings, for logs. Default: `Custom`.
    fn description(&self) -> String {
        "Custom".to_string()
    }
}

/// The data of a span that a sampler decides about.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SamplingInput<'a> {
    /// Context of the parent; `None` for a root span.
    pub parent: Option<&'a SpanContext<'a>>,
    /// Id of the span's trace.
    pub trace_id: TraceId,
    /// Name of the span.
    pub name: &'a str,
    /// Kind of the span.
    pub kind: SpanKind,
    /// Attributes that are set before the start.
    pub attributes: &'a [KeyValueRef<'a>],
    /// Links that are added before the start.
    pub links: &'a [LinkRef<'a>],
}

impl<'a> SamplingInput<'a> {
    /// Creates the data of an internal root span without attributes and links, for tests of a sampler.
    #[must_use]
    pub const fn new(trace_id: TraceId, name: &'a str) -> Self {
        Self {
            parent: None,
            trace_id,
            name,
            kind: SpanKind::Internal,
            attributes: &[],
            links: &[],
        }
    }
}

/// The decision of a sampler.
///
/// Build it with struct update syntax, `..SamplingResult::sampled()`: a minor release may add fields.
///
/// ```
/// use otlp_collector::span::SamplingResult;
/// use otlp_collector::KeyValue;
///
/// let attributes = [KeyValue::new("sampling.rule", "errors")];
/// let result = SamplingResult {
///     attributes: &attributes,
///     ..SamplingResult::sampled()
/// };
/// assert!(result.is_sampled);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingResult<'s> {
    /// Whether the span is recorded and sent. The specification's third decision, recorded but not
    /// sent, does not exist here, because nothing could read such a span.
    pub is_sampled: bool,
    /// Attributes to set on the span. They replace attributes with the same keys. Default: none.
    pub attributes: &'s [KeyValue],
    /// Trace state of the span; `None` is the parent's.
    pub trace_state: Option<TraceState<'s>>,
}

impl SamplingResult<'_> {
    /// Creates the decision to record and send the span.
    #[must_use]
    pub const fn sampled() -> Self {
        Self::new(true)
    }

    /// Creates the decision not to record the span.
    #[must_use]
    pub const fn dropped() -> Self {
        Self::new(false)
    }

    const fn new(is_sampled: bool) -> Self {
        Self {
            is_sampled,
            attributes: &[],
            trace_state: None,
        }
    }
}

impl From<bool> for SamplingResult<'_> {
    fn from(is_sampled: bool) -> Self {
        Self::new(is_sampled)
    }
}

impl Sampler {
    /// Returns whether it chooses a span of that trace, or a custom sampler to be asked.
    #[inline(always)]
    pub(crate) fn choose(
        &self,
        trace_id: TraceId,
        parent: Option<ParentKind>,
    ) -> Result<bool, &dyn Sample> {
        let mut sampler = self;
        while let Self::ParentBased(based) = sampler {
            sampler = based.for_parent(parent);
        }
        match sampler {
            Self::Custom(custom) => Err(&**custom),
            Self::TraceIdRatio(ratio) => Ok(is_chosen(trace_id, *ratio)),
            other => Ok(matches!(other, Self::AlwaysOn)),
        }
    }

    /// Decides for one span.
    pub(crate) fn should_sample<'s>(&'s self, span: &SamplingInput<'_>) -> SamplingResult<'s> {
        let parent = span.parent.map(|parent| ParentKind {
            is_remote: parent.is_remote,
            is_sampled: parent.trace_flags.is_sampled(),
        });
        let chosen = self.choose(span.trace_id, parent);
        chosen.map_or_else(|custom| custom.sample(span), SamplingResult::from)
    }

    /// Returns the first ratio that is not from 0 to 1.
    pub(crate) fn invalid_ratio(&self) -> Option<f64> {
        match self {
            Self::TraceIdRatio(ratio) => (!(0.0..=1.0).contains(ratio)).then_some(*ratio),
            Self::ParentBased(sampler) => [
                &sampler.root,
                &sampler.remote_parent_sampled,
                &sampler.remote_parent_not_sampled,
                &sampler.local_parent_sampled,
                &sampler.local_parent_not_sampled,
            ]
            .into_iter()
            .find_map(Self::invalid_ratio),
            Self::AlwaysOn | Self::AlwaysOff | Self::Custom(_) => None,
        }
    }
}

impl Default for Sampler {
    fn default() -> Self {
        ParentBased::new(Self::AlwaysOn).into()
    }
}

impl PartialEq for Sampler {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::AlwaysOn, Self::AlwaysOn) | (Self::AlwaysOff, Self::AlwaysOff) => true,
            (Self::TraceIdRatio(one), Self::TraceIdRatio(other)) => one == other,
            (Self::ParentBased(one), Self::ParentBased(other)) => one == other,
            (Self::Custom(one), Self::Custom(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

/// Writes the description that the specification defines.
impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlwaysOn => f.write_str("AlwaysOnSampler"),
            Self::AlwaysOff => f.write_str("AlwaysOffSampler"),
            Self::TraceIdRatio(ratio) => write!(f, "TraceIdRatioBased{{{ratio:.6}}}"),
            Self::ParentBased(sampler) => {
                let default = ParentBased::new(sampler.root.clone());
                write!(f, "ParentBased{{root:{}", sampler.root)?;
                for (name, case, default) in [
                    (
                        "remoteParentSampled",
                        &sampler.remote_parent_sampled,
                        &default.remote_parent_sampled,
                    ),
                    (
                        "remoteParentNotSampled",
                        &sampler.remote_parent_not_sampled,
                        &default.remote_parent_not_sampled,
                    ),
                    (
                        "localParentSampled",
                        &sampler.local_parent_sampled,
                        &default.local_parent_sampled,
                    ),
                    (
                        "localParentNotSampled",
                        &sampler.local_parent_not_sampled,
                        &default.local_parent_not_sampled,
                    ),
                ] {
                    if case != default {
                        write!(f, ",{name}:{case}")?;
                    }
                }
                f.write_str("}")
            }
            Self::Custom(sampler) => f.write_str(&sampler.description()),
        }
    }
}

impl fmt::Debug for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const ANY_TRACE: TraceId = TraceId::from_u128(1).unwrap();

    fn decide(sampler: &Sampler, trace_id: TraceId, parent: Option<ParentKind>) -> bool {
        let chosen = sampler.choose(trace_id, parent);
        chosen.unwrap_or_else(|_| unreachable!("none of these is custom"))
    }

    #[test]
    fn parent_based_has_four_slots_and_a_root() {
        // Each case answers with the opposite of its default.
        let sampler = Sampler::from(ParentBased {
            root: Sampler::AlwaysOff,
            remote_parent_sampled: Sampler::AlwaysOff,
            remote_parent_not_sampled: Sampler::AlwaysOn,
            local_parent_sampled: Sampler::AlwaysOff,
            local_parent_not_sampled: Sampler::AlwaysOn,
        });
        let default = Sampler::default();
        assert!(decide(&default, ANY_TRACE, None) && !decide(&sampler, ANY_TRACE, None));
        for (is_remote, is_sampled) in [(true, true), (true, false), (false, true), (false, false)]
        {
            let parent = Some(ParentKind {
                is_remote,
                is_sampled,
            });
            assert_eq!(decide(&default, ANY_TRACE, parent), is_sampled);
            assert_eq!(decide(&sampler, ANY_TRACE, parent), !is_sampled);
        }
        assert_eq!(
            sampler.to_string(),
            "ParentBased{root:AlwaysOffSampler,remoteParentSampled:AlwaysOffSampler,\
             remoteParentNotSampled:AlwaysOnSampler,localParentSampled:AlwaysOffSampler,\
             localParentNotSampled:AlwaysOnSampler}"
        );
    }

    #[test]
    fn ratios_choose_by_the_low_half_of_the_trace_id() {
        const LOWEST: u128 = 1 << 64;
        const HALF: u128 = u128::MAX - (1 << 63);
        for (trace_id, ratio, chosen) in [
            (LOWEST, 0.0, false),
            (LOWEST, 1e-9, true),
            (u128::MAX, 1.0, true),
            (u128::MAX, 0.999_999, false),
            (HALF, 0.5, true),
            (HALF, 0.499_999, false),
        ] {
            let sampler = Sampler::TraceIdRatio(ratio);
            let trace_id = TraceId::from_u128(trace_id).unwrap();
            assert_eq!(decide(&sampler, trace_id, None), chosen, "{ratio}");
        }
        assert_eq!(
            Sampler::TraceIdRatio(0.0001).to_string(),
            "TraceIdRatioBased{0.000100}"
        );
        for ratio in [f64::NAN, -0.1, 1.1, f64::INFINITY] {
            let nested = Sampler::from(ParentBased::new(Sampler::TraceIdRatio(ratio)));
            assert!(nested.invalid_ratio().is_some());
        }
    }
}
