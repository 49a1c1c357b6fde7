//! The configuration: every key, its default, and what a value may be.
//!
//! Owns: [`Config`], its defaults and its checks, and where it is read from.
//! Does not: open anything that it names.
//! Holds: no key is ignored: an unknown one is refused, and so is one without an effect.
//! Fails: `Config`, naming the file, line and column (or the environment variable) and the nearest valid key.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lake::log::State;
use lake::transform::PartitionBy;
use pgoutput::Oid;
use serde::Deserialize;
use tables::fold::{ByTable, Patterns, Selection};
use tables::types::{ChosenBy, Misfit, RuleError, TypeRules};

use crate::error::{Error, Result};
use crate::layouts::{LayoutRule, Layouts};
use crate::source::options::Host;
use crate::source::{ConnectOptions, Folding};
use crate::transactions::Room;

mod keys;
mod layers;
mod node;
mod values;

pub use keys::keys;
pub use values::{ByteSize, ConnectionUrl, Forms};

use layers::{Environment, Layers};
use values::Places;

/// Everything that can be configured.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where changes come from.
    pub source: Source,
    /// Where they go.
    pub lake: Lake,
    /// Which tables.
    pub tables: Tables,
    /// What becomes of partitions.
    pub partitions: Partitions,
    /// Rows that are there before the stream begins.
    pub snapshot: Snapshot,
    /// When buffers become files.
    pub cut: Cut,
    /// The bound of everything buffered.
    pub memory: Memory,
    /// How Postgres types become lake types.
    pub types: Types,
    /// Metrics, health and status.
    pub http: Http,
}

/// `[source]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Source {
    /// The server, as a libpq URL.
    pub url: ConnectionUrl,
    /// A file that holds the password and nothing else.
    pub password_file: Option<PathBuf>,
    /// Where passwords come from.
    pub auth: Auth,
    /// The replication slot.
    pub slot: String,
    /// The publications that are read.
    pub publication: Vec<String>,
    /// How cells are sent.
    pub format: Format,
    /// Where catalogs are read, if not from `url`.
    pub catalog_url: Option<ConnectionUrl>,
    /// The primary, if `url` names a standby.
    pub primary_url: Option<ConnectionUrl>,
    /// Whether the slot of a primary is made so that its standbys keep a copy.
    pub failover: bool,
    /// How much log the slot may keep at the server; 0 for no bound.
    pub wal_budget: ByteSize,
    /// What happens when it keeps more.
    pub on_wal_budget: OnWalBudget,
    /// Whether large transactions are sent before they have committed.
    pub streaming: StreamingMode,
    /// Where those are kept meanwhile.
    pub spool_directory: Option<PathBuf>,
    /// How much of the disk they may take.
    pub spool_size: ByteSize,
}

impl Source {
    /// How much log the slot may keep, in bytes, if there is a bound.
    pub fn wal_budget(&self) -> Option<u64> {
        Some(self.wal_budget.as_u64()).filter(|bytes| *bytes > 0)
    }

    /// Where and in how much room transactions are kept that have not committed.
    ///
    /// Not in /tmp by itself: that is memory on many systems, and this is what has no room there.
    pub fn spool(&self) -> Room {
        let named = |variable| std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
        let directory =
            self.spool_directory.clone().or_else(|| named("STATE_DIRECTORY")).or_else(|| named("TMPDIR"));
        Room::new(directory.unwrap_or_else(|| PathBuf::from("/var/tmp")), self.spool_size)
    }
}

impl Default for Source {
    fn default() -> Source {
        Source {
            url: ConnectionUrl::default(),
            password_file: None,
            auth: Auth::Password,
            slot: "tributary".to_owned(),
            publication: vec!["tributary".to_owned()],
            format: Format::Auto,
            catalog_url: None,
            primary_url: None,
            failover: true,
            wal_budget: ByteSize::kibibytes(0),
            on_wal_budget: OnWalBudget::Halt,
            streaming: StreamingMode::Off,
            spool_directory: None,
            spool_size: ByteSize::mebibytes(10 << 10),
        }
    }
}

/// `source.auth`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// From the file, the URL or the environment, if the server asks for one.
    #[default]
    Password,
    /// Tokens of Amazon RDS, one for each connection.
    RdsIam,
}

/// `source.on_wal_budget`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnWalBudget {
    /// The daemon ends and the slot stays: a person decides.
    #[default]
    Halt,
    /// The daemon drops its slot and ends: the server's disk comes first.
    DropSlot,
}

/// `source.format`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// As is best for the published types.
    #[default]
    Auto,
    /// Binary.
    Binary,
    /// Text.
    Text,
}

/// `source.streaming`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamingMode {
    /// Postgres holds a transaction back until it has committed.
    #[default]
    Off,
    /// Postgres sends what does not fit its `logical_decoding_work_mem`.
    On,
}

/// `[lake]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lake {
    /// Bucket and prefix, or a folder.
    pub url: String,
    /// What only S3 needs.
    pub s3: S3,
}

impl Lake {
    /// The URL, understood.
    pub fn location(&self) -> Result<Location> {
        Location::parse(&self.url).map_err(Error::config)
    }

    /// The settings of a store in this bucket.
    pub fn s3_settings(&self, bucket: String, prefix: String) -> store::S3Settings {
        store::S3Settings {
            bucket,
            prefix,
            region: self.s3.region.clone(),
            endpoint: self.s3.endpoint.clone(),
            path_style: self.s3.path_style,
            kms_key_id: self.s3.kms_key_id.clone(),
            expected_bucket_owner: self.s3.expected_bucket_owner.clone(),
            part_size: self.s3.part_size.as_usize(),
            checksums: match self.s3.checksums {
                Checksums::Always => store::Checksums::Always,
                Checksums::WhenRequired => store::Checksums::WhenRequired,
            },
        }
    }
}

/// What `lake.url` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// `s3://bucket/prefix`
    S3 {
        /// The bucket.
        bucket: String,
        /// Without slashes at its ends; may be empty.
        prefix: String,
    },
    /// `file:///folder`
    Directory(PathBuf),
}

impl Location {
    fn parse(url: &str) -> Result<Location, String> {
        if url.is_empty() {
            return Err("`lake.url` is not set".to_owned());
        }
        if let Some(rest) = url.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err("`lake.url` names no bucket".to_owned());
            }
            // Not repeated: it may be a secret.
            if bucket.contains(['@', ':']) {
                return Err("`lake.url` is s3://bucket/prefix, and holds no credentials and no port: they come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or the instance; `lake.s3.endpoint` names another server".to_owned());
            }
            return Ok(Location::S3 {
                bucket: bucket.to_owned(),
                prefix: prefix.trim_matches('/').to_owned(),
            });
        }
        if let Some(path) = url.strip_prefix("file://") {
            if !path.starts_with('/') {
                return Err(
                    "a `file://` URL names an absolute path, with three slashes: file:///var/lib/lake"
                        .to_owned(),
                );
            }
            return Ok(Location::Directory(PathBuf::from(path)));
        }
        Err("`lake.url` begins with s3:// or file://".to_owned())
    }
}

/// `[lake.s3]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3 {
    /// The bucket's region, if the AWS SDK does not know it by itself.
    pub region: Option<String>,
    /// The URL of another S3 server than Amazon's.
    pub endpoint: Option<String>,
    /// The bucket in the path and not in the host name.
    pub path_style: bool,
    /// Encrypt with this KMS key.
    pub kms_key_id: Option<String>,
    /// The account that has to own the bucket.
    pub expected_bucket_owner: Option<String>,
    /// The size of a part of an upload.
    pub part_size: ByteSize,
    /// When requests carry checksums.
    pub checksums: Checksums,
}

impl Default for S3 {
    fn default() -> S3 {
        S3 {
            region: None,
            endpoint: None,
            path_style: false,
            kms_key_id: None,
            expected_bucket_owner: None,
            part_size: ByteSize::mebibytes(8),
            checksums: Checksums::Always,
        }
    }
}

/// `lake.s3.checksums`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checksums {
    /// On every request.
    #[default]
    Always,
    /// Only where S3 insists, for older stores.
    WhenRequired,
}

/// `[tables]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tables {
    /// Globs on `schema.table`.
    pub include: Vec<String>,
    /// Globs that win over `include`.
    pub exclude: Vec<String>,
    /// Globs on `schema.table` of those whose rows have the old row beside them.
    pub before: Vec<String>,
    /// What is different for some tables.
    pub r#override: Vec<TableOverride>,
    /// Where that was written.
    #[serde(skip)]
    places: Places,
}

impl Tables {
    /// The globs, ready to match.
    pub fn selection(&self) -> Result<tables::fold::Selection> {
        tables::fold::Selection::new(&self.include, &self.exclude)
            .map_err(|error| Error::config("tables.include or tables.exclude").caused_by(error))
    }

    /// The tables with `_cdc_before`, ready to match.
    pub fn with_before(&self) -> Result<tables::fold::Selection> {
        tables::fold::Selection::new(&self.before, &[])
            .map_err(|error| Error::config("tables.before").caused_by(error))
    }

    /// What one key of `[[tables.override]]` says, and `otherwise` of all other tables.
    fn by_table<T: Copy>(
        &self,
        otherwise: T,
        key: impl Fn(&TableOverride) -> Option<T>,
    ) -> Result<ByTable<T>> {
        let mut rules = Vec::new();
        for of_tables in &self.r#override {
            if let Some(value) = key(of_tables) {
                rules.push((of_tables.parsed()?, value));
            }
        }
        Ok(ByTable::new(otherwise, rules))
    }

    /// The tables that are laid out by their own columns, ready to match.
    pub fn layouts(&self) -> Result<Layouts> {
        let mut rules = Vec::new();
        for (number, of_tables) in self.r#override.iter().enumerate() {
            let Some(partition_by) = of_tables.partition_by.clone() else { continue };
            rules.push(LayoutRule {
                glob: of_tables.r#match.clone(),
                selection: of_tables.parsed()?,
                insert_only: of_tables.insert_only,
                partition_by,
                open_max: usize::try_from(of_tables.open_partitions).unwrap_or(1).max(1),
                place: self.places.of(TABLE_OVERRIDE, &number.to_string()).map(str::to_owned),
            });
        }
        Ok(Layouts::new(rules))
    }
}

/// `[[tables.override]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableOverride {
    /// A glob on `schema.table`. Of several that match, the last one counts.
    pub r#match: String,
    /// Rows are inserted, and never updated or deleted.
    #[serde(default)]
    pub insert_only: bool,
    /// The columns that the files are laid out by, instead of commit time; empty for commit time. Without it, as another entry says.
    #[serde(default, deserialize_with = "values::transforms")]
    pub partition_by: Option<Vec<PartitionBy>>,
    /// Files of the table that are open at once, at most.
    #[serde(default = "open_partitions")]
    pub open_partitions: u32,
    /// `partitions.on_truncate` of the table.
    #[serde(default)]
    pub on_truncate: Option<OnTruncate>,
    /// `partitions.on_attach` of the table.
    #[serde(default)]
    pub on_attach: Option<OnAttach>,
    /// `partitions.on_detach` of the table.
    #[serde(default)]
    pub on_detach: Option<OnGone>,
    /// `partitions.on_drop` of the table.
    #[serde(default)]
    pub on_drop: Option<OnGone>,
}

impl TableOverride {
    fn selection(&self) -> Result<tables::fold::Selection, tables::fold::GlobError> {
        tables::fold::Selection::new(std::slice::from_ref(&self.r#match), &[])
    }

    fn parsed(&self) -> Result<tables::fold::Selection> {
        self.selection().map_err(|error| Error::config("tables.override.match").caused_by(error))
    }

    /// What is wrong with it, and in which key.
    fn check(&self) -> Result<(), (&'static str, String)> {
        self.selection().map_err(|error| ("match", error.to_string()))?;
        let TableOverride { partition_by, on_truncate, on_attach, on_detach, on_drop, .. } = self;
        if partition_by.is_none()
            && (on_truncate, on_attach, on_detach, on_drop) == (&None, &None, &None, &None)
        {
            let what = "it says nothing of these tables: `partition_by`, `on_truncate`, `on_attach`, `on_detach` or `on_drop`";
            return Err(("match", what.to_owned()));
        }
        if partition_by.is_none() && self.insert_only {
            return Err((
                "insert_only",
                "`insert_only` says something of `partition_by` only, which is missing".to_owned(),
            ));
        }
        let fields = self.partition_by.as_deref().unwrap_or_default();
        if fields.len() > FIELDS_MAX {
            return Err(("partition_by", format!("there are at most {FIELDS_MAX} levels of partitions")));
        }
        for (place, field) in fields.iter().enumerate() {
            let folders = |by: &PartitionBy| (by.column.clone(), by.transform.suffix());
            if fields.iter().take(place).any(|other| folders(other) == folders(field)) {
                let what = format!("`{field}` would have the same folders as the one before");
                return Err(("partition_by", what));
            }
        }
        if !OPEN_PARTITIONS.contains(&self.open_partitions) {
            return Err(("open_partitions", "`open_partitions` is not between 1 and 1000".to_owned()));
        }
        Ok(())
    }
}

/// The default of `tables.override.open_partitions`.
fn open_partitions() -> u32 {
    100
}

impl Default for Tables {
    fn default() -> Tables {
        Tables {
            include: vec!["*.*".to_owned()],
            exclude: Vec::new(),
            before: Vec::new(),
            r#override: Vec::new(),
            places: Places::default(),
        }
    }
}

/// `[partitions]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Partitions {
    /// Whose table a leaf's rows belong to.
    pub fold: FoldTo,
    /// Globs on `schema.table` of those that have the rows of the tables that inherit from them.
    pub inherit: Vec<String>,
    /// Tables that are leaves by their name.
    pub pattern: Vec<Pattern>,
    /// What TRUNCATE does to the lake.
    pub on_truncate: OnTruncate,
    /// What ATTACH PARTITION does to the lake.
    pub on_attach: OnAttach,
    /// What DETACH PARTITION does to the lake.
    pub on_detach: OnGone,
    /// What dropping a partition does to the lake.
    pub on_drop: OnGone,
    /// How often the catalogs are asked whether partitions were attached, detached or dropped.
    #[serde(deserialize_with = "values::duration")]
    pub refresh: Duration,
    /// Where patterns were written.
    #[serde(skip)]
    places: Places,
}

impl Default for Partitions {
    fn default() -> Partitions {
        Partitions {
            fold: FoldTo::default(),
            inherit: Vec::new(),
            pattern: Vec::new(),
            on_truncate: OnTruncate::default(),
            on_attach: OnAttach::default(),
            on_detach: OnGone::default(),
            on_drop: OnGone::default(),
            refresh: Duration::from_secs(30),
            places: Places::default(),
        }
    }
}

impl Partitions {
    /// Whether a leaf's rows go to its root.
    pub fn folds_to_root(&self) -> bool {
        self.fold == FoldTo::Root
    }

    /// Whose rows belong to whose table. The log knows the OIDs of tables that only patterns make.
    pub fn folding(&self, log: Option<&State>) -> Result<Folding> {
        let inherit = Selection::new(&self.inherit, &[])
            .map_err(|error| Error::config("partitions.inherit").caused_by(error))?;
        let mut patterns = Vec::with_capacity(self.pattern.len());
        let mut places = Vec::with_capacity(self.pattern.len());
        for (number, pattern) in self.pattern.iter().enumerate() {
            let parsed = pattern.parsed().map_err(|error| {
                Error::config(format!("partitions.pattern.{}", error.key)).caused_by(error)
            })?;
            patterns.push(parsed);
            places.push(self.places.of(PATTERN, &number.to_string()).map(str::to_owned));
        }
        Ok(Folding::new(self.folds_to_root(), inherit, Patterns::new(patterns, logged(log)), places))
    }

    /// What is wrong with its rules, and where.
    fn check(&self) -> Result<(), Problem> {
        Selection::new(&self.inherit, &[])
            .map_err(|error| Problem::at("partitions.inherit", error.to_string()).hint(GLOBS))?;
        if !(self.folds_to_root() || self.inherit.is_empty() && self.pattern.is_empty()) {
            let key = if self.inherit.is_empty() { PATTERN } else { "partitions.inherit" };
            return Err(Problem::at(
                key,
                format!("`{key}` folds nothing where `partitions.fold` is \"none\""),
            )
            .hint("partitions.fold = \"root\""));
        }
        if self.pattern.len() > PATTERNS_MAX {
            return Err(Problem::at(PATTERN, format!("there are at most {PATTERNS_MAX} patterns")));
        }
        let in_entry = |number: usize, field, what: String| {
            let problem = Problem::in_entry(PATTERN, &number.to_string(), what);
            Problem { field: Some(field), ..problem }
        };
        let mut parsed = Vec::with_capacity(self.pattern.len());
        for (number, pattern) in self.pattern.iter().enumerate() {
            if self.pattern.iter().take(number).any(|other| other.r#match == pattern.r#match) {
                return Err(in_entry(number, "match", format!("`{}` is there twice", pattern.r#match)));
            }
            parsed.push(pattern.parsed().map_err(|error| {
                let hint = if error.key == "match" { EXPRESSION } else { "into = \"public.orders\"" };
                in_entry(number, error.key, error.to_string()).hint(hint)
            })?);
        }
        let patterns = Patterns::new(parsed, std::iter::empty());
        for (number, pattern) in patterns.iter().enumerate() {
            let (schema, name) = pattern.target();
            let what = match patterns.of(schema, name) {
                Ok(None) => continue,
                Ok(Some(other)) => {
                    let (above, root) = other.target();
                    format!("`{schema}.{name}` is itself a leaf, of {above}.{root} by another pattern")
                }
                Err(overlap) => overlap.to_string(),
            };
            return Err(in_entry(number, "into", what).hint("lead both patterns to the same table"));
        }
        Ok(())
    }
}

/// The tables of the log, by the names that they have in the lake.
fn logged(log: Option<&State>) -> impl Iterator<Item = (Oid, &str, &str)> {
    let tables = log.into_iter().flat_map(|state| &state.tables);
    let tables =
        tables.map(|(oid, table)| (Oid(*oid), table.schema_name.as_str(), table.table_name.as_str()));
    // One that has no row yet has no table, but may have been read.
    let read = log.into_iter().flat_map(|state| &state.snapshots);
    let read = read.filter(|(_, snapshot)| snapshot.root.is_none()).filter_map(|(oid, snapshot)| {
        let (schema, name) = snapshot.table.split_once('.')?;
        Some((Oid(*oid), schema, name))
    });
    read.chain(tables)
}

/// The `on_…` keys of `[partitions]`, and of `[[tables.override]]` where these say otherwise.
#[derive(Clone, Debug)]
pub struct PartitionPolicies {
    /// Whether a TRUNCATE leaves a `T` row.
    pub marks_truncate: ByTable<bool>,
    /// What ATTACH PARTITION does to the lake.
    pub on_attach: ByTable<OnAttach>,
    /// What DETACH PARTITION does to the lake.
    pub on_detach: ByTable<OnGone>,
    /// What dropping a partition does to the lake.
    pub on_drop: ByTable<OnGone>,
}

/// `partitions.fold`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FoldTo {
    /// The topmost partitioned parent.
    #[default]
    Root,
    /// The leaf itself.
    None,
}

/// `partitions.on_truncate`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnTruncate {
    /// A `T` row supersedes the older rows.
    #[default]
    Mark,
    /// Only an event in the log.
    Keep,
}

/// `partitions.on_detach` and `partitions.on_drop`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnGone {
    /// Its rows stay as they are; only the log tells.
    #[default]
    Keep,
    /// A `T` row supersedes its rows.
    Mark,
}

/// `partitions.on_attach`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnAttach {
    /// Its rows are read into the lake.
    #[default]
    Backfill,
    /// Only what changes from then on.
    Ignore,
}

/// `[[partitions.pattern]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// A regular expression on `schema.table`.
    pub r#match: String,
    /// The table that these are leaves of.
    pub into: String,
}

impl Pattern {
    fn parsed(&self) -> Result<tables::fold::Pattern, tables::fold::PatternError> {
        tables::fold::Pattern::new(&self.r#match, &self.into)
    }
}

/// `[snapshot]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Snapshot {
    /// Whether rows of before the slot are exported.
    pub mode: SnapshotMode,
    /// The server whose rows are read, as a libpq URL, if it is not the one that catalogs are read from.
    pub url: Option<ConnectionUrl>,
    /// Readers at once.
    pub workers: u32,
    /// What all of them together read in a second, at most; 0 for no bound.
    pub max_rate: ByteSize,
}

impl Default for Snapshot {
    fn default() -> Snapshot {
        Snapshot { mode: SnapshotMode::Initial, url: None, workers: 4, max_rate: ByteSize::kibibytes(0) }
    }
}

/// `snapshot.mode`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotMode {
    /// Once, when the slot is created.
    #[default]
    Initial,
    /// Never.
    Never,
}

/// `[cut]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cut {
    /// The age of the oldest buffered row at which a cut is made.
    #[serde(deserialize_with = "values::duration")]
    pub interval: Duration,
    /// The size at which a file is ended.
    pub file_size: ByteSize,
}

impl Default for Cut {
    fn default() -> Cut {
        Cut { interval: Duration::from_secs(60), file_size: ByteSize::mebibytes(128) }
    }
}

/// `[memory]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// What buffers, encoders and parts in flight may take together.
    pub budget: ByteSize,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory { budget: ByteSize::mebibytes(512) }
    }
}

/// `[types]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Types {
    /// Which lake types are used.
    pub profile: Profile,
    /// What becomes of a value that its lake type does not hold.
    pub on_unrepresentable: OnUnrepresentable,
    /// Forms by type.
    pub r#override: Forms,
    /// Forms by column.
    pub columns: Forms,
    /// Where the forms were written.
    #[serde(skip)]
    places: Places,
}

impl Types {
    /// The rules, ready to match.
    pub fn rules(&self) -> Result<TypeRules> {
        self.try_rules().map_err(|(_, error)| Error::config(error.what))
    }

    /// Whether a value that its lake type does not hold stops the daemon.
    pub fn refuses_loss(&self) -> bool {
        self.on_unrepresentable == OnUnrepresentable::Error
    }

    /// A rule that does not fit the type of a column, as an error that says where it stands.
    pub fn misfit(&self, column: &str, type_name: &str, misfit: &Misfit) -> Error {
        let (section, key) = match &misfit.rule {
            ChosenBy::Override(key) => (OVERRIDE, key.as_str()),
            ChosenBy::Column(key) => (COLUMNS, key.as_str()),
            ChosenBy::Default | ChosenBy::Profile => ("types.profile", ""),
        };
        let what = format!("{column} is a {type_name}, which has no form `{}`", misfit.form);
        let error = match self.places.of(section, key) {
            Some(place) => Error::config(format!("{place}: {what}")),
            None => Error::config(what),
        };
        error.hint(hint_of_words(&misfit.form.to_string(), &misfit.valid))
    }

    /// With the section of the rule that is wrong.
    fn try_rules(&self) -> std::result::Result<TypeRules, (&'static str, RuleError)> {
        let profile = match self.profile {
            Profile::Portable => tables::types::Profile::Portable,
            Profile::Native => tables::types::Profile::Native,
        };
        let none = || std::iter::empty();
        // Once without the columns, so that an error tells its section.
        TypeRules::new(profile, self.r#override.iter(), none()).map_err(|error| (OVERRIDE, error))?;
        TypeRules::new(profile, self.r#override.iter(), self.columns.iter()).map_err(|error| (COLUMNS, error))
    }
}

/// `types.profile`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// What every common engine reads.
    #[default]
    Portable,
    /// Closest to Postgres.
    Native,
}

/// `types.on_unrepresentable`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnrepresentable {
    /// NULL or the nearest value, and the exact text in `_cdc_raw`.
    #[default]
    Raw,
    /// The daemon stops.
    Error,
}

/// `[http]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// `address:port`; empty for none.
    pub listen: String,
}

impl Default for Http {
    fn default() -> Http {
        Http { listen: "127.0.0.1:9187".to_owned() }
    }
}

impl Config {
    /// Reads the file, or one of [`DEFAULT_PATHS`], or nothing, and what the environment overrides.
    pub fn load(path: Option<&Path>) -> Result<Config> {
        let path = path.map(Path::to_owned).or_else(default_path);
        let file = match &path {
            Some(path) => Some((path.display().to_string(), read(path)?)),
            None => None,
        };
        Config::from_parts(
            file.as_ref().map(|(name, text)| (name.as_str(), text.as_str())),
            &Environment::of_process(),
        )
    }

    /// Reads a text under a file's name, without the environment.
    pub fn parse(name: &str, text: &str) -> Result<Config> {
        Config::from_parts(Some((name, text)), &Environment::default())
    }

    fn from_parts(file: Option<(&str, &str)>, environment: &Environment) -> Result<Config> {
        let layers = Layers::read(file, environment)?;
        let mut config: Config = layers.deserialize()?;
        config.check().map_err(|problem| layers.locate(problem))?;
        for (section, forms) in [(OVERRIDE, &config.types.r#override), (COLUMNS, &config.types.columns)] {
            for (key, _) in forms.iter() {
                config.types.places.note(section, key, layers.place_of(section, key));
            }
        }
        for number in 0..config.tables.r#override.len() {
            let number = number.to_string();
            let place = layers.place_of(TABLE_OVERRIDE, &number);
            config.tables.places.note(TABLE_OVERRIDE, &number, place);
        }
        for number in 0..config.partitions.pattern.len() {
            let number = number.to_string();
            let place = layers.place_of(PATTERN, &number);
            config.partitions.places.note(PATTERN, &number, place);
        }
        Ok(config)
    }

    /// What becomes of the rows of partitions, by table.
    pub fn partition_policies(&self) -> Result<PartitionPolicies> {
        let Partitions { on_truncate, on_attach, on_detach, on_drop, .. } = &self.partitions;
        Ok(PartitionPolicies {
            marks_truncate: self.tables.by_table(*on_truncate == OnTruncate::Mark, |of_tables| {
                of_tables.on_truncate.map(|policy| policy == OnTruncate::Mark)
            })?,
            on_attach: self.tables.by_table(*on_attach, |of_tables| of_tables.on_attach)?,
            on_detach: self.tables.by_table(*on_detach, |of_tables| of_tables.on_detach)?,
            on_drop: self.tables.by_table(*on_drop, |of_tables| of_tables.on_drop)?,
        })
    }

    /// How to reach the server that is streamed from.
    pub fn source_options(&self) -> Result<ConnectOptions> {
        self.options(&self.source.url)
    }

    fn options(&self, url: &ConnectionUrl) -> Result<ConnectOptions> {
        let options = ConnectOptions::parse(url.as_str(), self.source.password_file.as_deref())?;
        match self.source.auth {
            Auth::Password => Ok(options),
            Auth::RdsIam if url.has_password() => Err(Error::config(
                "`source.auth = \"rds-iam\"` makes its own passwords, and there is one in the URL",
            )
            .hint("take away one of them")),
            Auth::RdsIam => options.by_rds_iam(),
        }
    }

    /// How to reach the server whose catalogs are read.
    pub fn catalog_options(&self) -> Result<ConnectOptions> {
        let url = self.source.catalog_url.as_ref().unwrap_or(&self.source.url);
        self.options(url)
    }

    /// How to reach the primary, if `source.url` names a standby.
    pub fn primary_options(&self) -> Result<Option<ConnectOptions>> {
        self.source.primary_url.as_ref().map(|url| self.options(url)).transpose()
    }

    /// How to reach the server whose rows a snapshot reads. Who names a replica for the catalogs wants its source spared, and rows are by far
    /// the most that is read of it.
    pub fn snapshot_options(&self) -> Result<ConnectOptions> {
        let url = self.snapshot.url.as_ref().or(self.source.catalog_url.as_ref()).unwrap_or(&self.source.url);
        self.options(url)
    }

    /// What is allowed and still worth a word.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let urls = [
            ("source.url", Some(&self.source.url)),
            ("source.catalog_url", self.source.catalog_url.as_ref()),
            ("source.primary_url", self.source.primary_url.as_ref()),
            ("snapshot.url", self.snapshot.url.as_ref()),
        ];
        for (key, url) in urls {
            if url.is_some_and(ConnectionUrl::has_password) {
                warnings.push(format!(
                    "the password stands in `{key}`; whoever reads the configuration reads it too: use `source.password_file` or PGPASSWORD"
                ));
            }
            if let Some(Ok(options)) = url.map(|url| self.options(url))
                && !options.knows_server()
            {
                warnings.push(format!(
                    "sslmode in `{key}` lets anybody on the way be the server, and see or change what is read: use sslmode=verify-full"
                ));
            }
        }
        if self.lake.s3.endpoint.as_deref().is_some_and(|endpoint| !is_encrypted_or_local(endpoint)) {
            warnings.push("`lake.s3.endpoint` is not encrypted: everybody on the way sees what is written there; use https://".to_owned());
        }
        warnings
    }

    /// What the types cannot forbid.
    fn check(&self) -> Result<(), Problem> {
        self.check_source()?;
        Location::parse(&self.lake.url).map_err(|what| {
            Problem::at("lake.url", what)
                .hint("lake.url = \"s3://bucket/prefix\", or file:///path; or set TRIBUTARY_LAKE__URL")
        })?;
        in_range("source.spool_size", self.source.spool_size, SPOOL_SIZE)?;
        if self.source.wal_budget().is_some() {
            in_range("source.wal_budget", self.source.wal_budget, WAL_BUDGET)?;
        } else if self.source.on_wal_budget == OnWalBudget::DropSlot {
            let what = "`source.on_wal_budget` has no effect without `source.wal_budget`";
            return Err(Problem::at("source.on_wal_budget", what).hint("wal_budget = \"50GiB\""));
        }
        in_range("lake.s3.part_size", self.lake.s3.part_size, PART_SIZE)?;
        in_range("cut.file_size", self.cut.file_size, FILE_SIZE)?;
        in_range("memory.budget", self.memory.budget, BUDGET)?;
        if !INTERVAL.contains(&self.cut.interval) {
            return Err(Problem::at("cut.interval", "`cut.interval` is not between 100ms and 24h"));
        }
        if !REFRESH.contains(&self.partitions.refresh) {
            return Err(Problem::at("partitions.refresh", "`partitions.refresh` is not between 1s and 1h"));
        }
        if !WORKERS.contains(&self.snapshot.workers) {
            return Err(Problem::at("snapshot.workers", "`snapshot.workers` is not between 1 and 64"));
        }
        if self.snapshot.max_rate != Snapshot::default().max_rate {
            in_range("snapshot.max_rate", self.snapshot.max_rate, MAX_RATE)?;
        }
        self.check_tables()?;
        self.check_types()?;
        self.partitions.check()?;
        self.check_listen()
    }

    fn check_source(&self) -> Result<(), Problem> {
        let source = &self.source;
        if source.url.as_str().is_empty() {
            return Err(Problem::at("source.url", "`source.url` is not set").hint(
                "source.url = \"postgresql://role@host:5432/database?sslmode=verify-full\"; or set TRIBUTARY_SOURCE__URL",
            ));
        }
        // <https://www.postgresql.org/docs/current/warm-standby.html#STREAMING-REPLICATION-SLOTS-MANIPULATION>
        let is_slot_name = |name: &str| {
            (1..=63).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        };
        if !is_slot_name(&source.slot) {
            return Err(Problem::at(
                "source.slot",
                format!("`{}` is not the name of a slot: 1 to 63 of a-z, 0-9 and _", source.slot),
            ));
        }
        if source.publication.is_empty() || source.publication.iter().any(String::is_empty) {
            return Err(Problem::at(
                "source.publication",
                "`source.publication` names at least one publication",
            ));
        }
        Ok(())
    }

    fn check_tables(&self) -> Result<(), Problem> {
        let of = |globs: &[String]| {
            tables::fold::Selection::new(globs, &[]).map(drop).map_err(|error| error.to_string())
        };
        of(&self.tables.include).map_err(|what| Problem::at("tables.include", what).hint(GLOBS))?;
        of(&self.tables.exclude).map_err(|what| Problem::at("tables.exclude", what).hint(GLOBS))?;
        of(&self.tables.before).map_err(|what| Problem::at("tables.before", what).hint(GLOBS))?;
        if self.tables.include.is_empty() {
            return Err(Problem::at("tables.include", "`tables.include` names no table")
                .hint("[\"*.*\"] is all of them"));
        }
        for (number, of_tables) in self.tables.r#override.iter().enumerate() {
            of_tables.check().map_err(|(field, what)| {
                let problem = Problem::in_entry(TABLE_OVERRIDE, &number.to_string(), what);
                let problem = if field == "match" { problem.hint(GLOB) } else { problem };
                Problem { field: Some(field), ..problem }
            })?;
        }
        Ok(())
    }

    fn check_types(&self) -> Result<(), Problem> {
        let Err((section, error)) = self.types.try_rules() else { return Ok(()) };
        let problem = Problem::in_entry(section, &error.key, error.what);
        Err(match error.valid.as_slice() {
            [] => problem.hint(COLUMN_GLOBS),
            valid => problem.hint(hint_of_words(&error.written, valid)),
        })
    }

    fn check_listen(&self) -> Result<(), Problem> {
        let listen = &self.http.listen;
        let has_port = listen
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if listen.is_empty() || has_port {
            return Ok(());
        }
        Err(Problem::at("http.listen", format!("`{listen}` is not an address and port"))
            .hint("http.listen = \"127.0.0.1:9187\", \"0.0.0.0:9187\" for all addresses, or \"\" for none"))
    }
}

/// What is wrong with the value of a key.
#[derive(Debug)]
struct Problem {
    key: &'static str,
    /// The key of a map, or the number in a list, if that is what `key` is.
    entry: Option<String>,
    /// The key within the entry.
    field: Option<&'static str>,
    what: String,
    hint: Option<String>,
}

impl Problem {
    fn at(key: &'static str, what: impl Into<String>) -> Problem {
        Problem { key, entry: None, field: None, what: what.into(), hint: None }
    }

    fn in_entry(key: &'static str, entry: &str, what: impl Into<String>) -> Problem {
        Problem { entry: Some(entry.to_owned()), ..Problem::at(key, what) }
    }

    fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }
}

/// The nearest of the words that are valid, and all of them if they are few.
fn hint_of_words(written: &str, valid: &[String]) -> String {
    let all =
        if valid.len() <= WORDS_SHOWN { format!("there are: {}", valid.join(", ")) } else { String::new() };
    match keys::nearest(written, valid.iter().map(String::as_str)) {
        Some(meant) if all.is_empty() => format!("did you mean `{meant}`?"),
        Some(meant) => format!("did you mean `{meant}`? {all}"),
        None if all.is_empty() => "see the table of types in the README".to_owned(),
        None => all,
    }
}

fn in_range(key: &'static str, size: ByteSize, range: RangeInclusive<ByteSize>) -> Result<(), Problem> {
    if range.contains(&size) {
        return Ok(());
    }
    Err(Problem::at(key, format!("`{key}` is {size}, and not between {} and {}", range.start(), range.end())))
}

/// Whether nobody on the way to an S3 server sees what is said.
fn is_encrypted_or_local(endpoint: &str) -> bool {
    let Some(rest) = endpoint.strip_prefix("http://") else { return true };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => authority.split(':').next().unwrap_or_default(),
    };
    Host::Tcp(host.to_owned()).is_local()
}

fn default_path() -> Option<PathBuf> {
    DEFAULT_PATHS.iter().map(PathBuf::from).find(|path| path.exists())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| {
        Error::config(format!("{}: the configuration cannot be read", path.display()))
            .caused_by(error)
            .hint("`--config PATH` names another file; without one, ./tributary.toml and /etc/tributary/tributary.toml are looked for")
    })
}

/// Where a configuration is looked for when none is named.
pub const DEFAULT_PATHS: [&str; 2] = ["tributary.toml", "/etc/tributary/tributary.toml"];

/// Below 64 MiB a single block of the stream may not fit; the end is a disk's.
const SPOOL_SIZE: RangeInclusive<ByteSize> = ByteSize::mebibytes(64)..=ByteSize::mebibytes(16 << 20);
/// Below four segments of the log every pause would end the daemon; the end is a disk's.
const WAL_BUDGET: RangeInclusive<ByteSize> = ByteSize::mebibytes(64)..=ByteSize::mebibytes(1 << 30);
/// S3 takes parts of 5 MiB to 5 GiB; above 512 MiB a few of them fill any memory budget.
const PART_SIZE: RangeInclusive<ByteSize> = ByteSize::mebibytes(5)..=ByteSize::mebibytes(512);
/// S3 objects end at 5 TiB; engines stop liking files long before.
const FILE_SIZE: RangeInclusive<ByteSize> = ByteSize::kibibytes(64)..=ByteSize::mebibytes(16 << 10);
/// Below 32 MiB a single row group and its parts would not fit.
const BUDGET: RangeInclusive<ByteSize> = ByteSize::mebibytes(32)..=ByteSize::mebibytes(1 << 20);
/// Slower than the first, a snapshot is not gentle but endless.
const MAX_RATE: RangeInclusive<ByteSize> = ByteSize::kibibytes(1)..=ByteSize::mebibytes(1 << 20);
/// Each is a session at the source.
const WORKERS: RangeInclusive<u32> = 1..=64;
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(86_400);
const REFRESH: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);
/// Each is an encoder, and a file of every cut.
const OPEN_PARTITIONS: RangeInclusive<u32> = 1..=1_000;
/// S3's keys end at 1,024 bytes.
const FIELDS_MAX: usize = 4;
/// Where tables are told apart.
const TABLE_OVERRIDE: &str = "tables.override";
/// Where tables are leaves by their names.
const PATTERN: &str = "partitions.pattern";
/// Each table's name is held against each.
const PATTERNS_MAX: usize = 1_000;
/// Where forms by type stand.
const OVERRIDE: &str = "types.override";
/// Where forms by column stand.
const COLUMNS: &str = "types.columns";
const COLUMN_GLOBS: &str =
    "globs are on schema.table.column, `*` any text and `?` one character: \"public.orders.price\"";
const EXPRESSION: &str =
    "a pattern is a regular expression on the whole schema.table: '^public\\.orders_(\\d+)$'";
/// More words than these are no help.
const WORDS_SHOWN: usize = 24;
const GLOB: &str = "a glob is on schema.table, `*` any text and `?` one character: \"public.events\"";
const GLOBS: &str =
    "globs are on schema.table, `*` any text and `?` one character: [\"public.*\", \"sales.orders\"]";

#[cfg(test)]
mod tests;
