//! S3 servers.
//!
//! Owns: a server process on a free loopback port, with one bucket.
//! Does not: store anything on disk that outlives the test.
//! Holds: credentials are the same everywhere.
//! Fails: with the end of the server's log.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::http;
use crate::place;
use crate::postgres::free_port;
use crate::process::{self, Process, User, command};
use crate::stage::Stage;
use crate::wait::{self, seconds};

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// The port.
    pub port: u16,
    process: Process,
}

impl Server {
    /// An emulator whose conditional writes are atomic and whose checksums are checked.
    pub async fn ministack(stage: &Stage) -> Result<Server> {
        let port = free_port()?;
        let mut program = command(place::python("ministack")?, User::Own);
        program
            .env("BIND_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            .env("LOG_LEVEL", "WARNING");
        program.current_dir(stage.folder());
        let process = Process::spawn("ministack", program, &stage.path(&format!("ministack-{port}.log")))?;
        let mut server = Server { port, process };
        server.wait_for_answer(seconds(60)).await?;
        server.create_bucket().await?;
        Ok(server)
    }

    /// Ceph's S3 server of 2021: an older real store.
    pub async fn radosgw(stage: &Stage) -> Result<Server> {
        let port = free_port()?;
        let folder = stage.path(&format!("radosgw-{port}"));
        let mut program = command(place::repository()?.join("scripts/radosgw.sh"), User::Own);
        program.env("TRIBUTARY_CACHE", place::cache()?);
        program.arg(&folder).arg(port.to_string()).arg(free_port()?.to_string());
        let process = Process::spawn("radosgw", program, &stage.path("radosgw.log"))?;
        let mut server = Server { port, process };
        let ready = folder.join("ready");
        wait::until("the start of radosgw", seconds(120), async || {
            server.process.must_run()?;
            ensure!(ready.exists(), "no {}", ready.display());
            Ok(())
        })
        .await
        .with_context(|| server.process.tail())?;
        // It wants signed requests, which the oracle's Python can make.
        let mut python = command(place::python("python")?, User::Own);
        python.args(["-c", CREATE_BUCKET]).arg(server.endpoint()).arg(BUCKET).arg(ACCESS_KEY).arg(SECRET_KEY);
        process::run("create-bucket", python, stage.folder(), seconds(60)).await?.success()?;
        Ok(server)
    }

    /// A store that ignores the conditions of a put.
    pub async fn s3rver(stage: &Stage) -> Result<Server> {
        let port = free_port()?;
        let mut program = command("node", User::Own);
        program.arg(place::s3rver()?).args(["--address", "127.0.0.1", "--port"]).arg(port.to_string());
        program.args(["--configure-bucket", BUCKET, "--directory"]).arg(stage.path("s3rver"));
        let process = Process::spawn("s3rver", program, &stage.path("s3rver.log"))?;
        let mut server = Server { port, process };
        server.wait_for_answer(seconds(60)).await?;
        Ok(server)
    }

    async fn wait_for_answer(&mut self, limit: Duration) -> Result<()> {
        let port = self.port;
        let answered = wait::until("an answer of the S3 server", limit, async || {
            self.process.must_run()?;
            http::get(port, "/").await
        });
        answered.await.map(drop).with_context(|| self.process.tail())
    }

    async fn create_bucket(&self) -> Result<()> {
        let port = self.port;
        let reply =
            tokio::task::spawn_blocking(move || http::request("PUT", port, &format!("/{BUCKET}"))).await??;
        ensure!(reply.status == 200, "creating the bucket: {} {}", reply.status, reply.text());
        Ok(())
    }

    /// The endpoint's URL.
    pub fn endpoint(&self) -> String {
        endpoint(self.port)
    }

    /// Stops answering, with connections left open.
    pub fn freeze(&mut self) -> Result<()> {
        self.process.signal(Signal::STOP)
    }

    /// Goes on.
    pub fn thaw(&mut self) -> Result<()> {
        self.process.signal(Signal::CONT)
    }
}

/// The URL of an endpoint on loopback.
pub fn endpoint(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// The bucket of every server.
pub const BUCKET: &str = "lake";
/// The access key of every server.
pub const ACCESS_KEY: &str = "test";
/// The secret key of every server.
pub const SECRET_KEY: &str = "testtesttest";

const CREATE_BUCKET: &str = "
import sys, pyarrow.fs
url, bucket, access, secret = sys.argv[1:]
scheme, host = url.split('://')
pyarrow.fs.S3FileSystem(access_key=access, secret_key=secret, region='us-east-1', scheme=scheme, endpoint_override=host, allow_bucket_creation=True).create_dir(bucket)
";
