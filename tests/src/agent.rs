//! The rotel agent, a third-party receiver. `.ci/rotel` installs it.

use std::env;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::PATIENCE;

/// A running agent, killed if the test panics.
pub struct Agent {
    pub http: SocketAddr,
    pid: u32,
    /// Reads the agent's output until it ends, so that the agent never blocks on a full pipe.
    output: Option<JoinHandle<io::Result<Output>>>,
}

impl Agent {
    pub fn start() -> Self {
        let path = env::var_os("ROTEL_AGENT").expect("ROTEL_AGENT is not set: run .ci/rotel");
        let [http, grpc] = free_addresses();
        let child = Command::new(path)
            .args(["start", "--exporter", "blackhole"])
            .args(["--debug-log", "traces", "--debug-log-verbosity", "detailed"])
            .args(["--otlp-http-endpoint", &http.to_string()])
            .args(["--otlp-grpc-endpoint", &grpc.to_string()])
            // Log lines would be mixed with the spans.
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let agent = Self {
            http,
            pid: child.id(),
            output: Some(thread::spawn(|| child.wait_with_output())),
        };
        agent.wait_until_ready()
    }

    fn wait_until_ready(mut self) -> Self {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(self.http).is_err() {
            if self.output.as_ref().is_some_and(JoinHandle::is_finished) {
                panic!("the agent exited: {:?}", self.stop("-KILL"));
            }
            assert!(Instant::now() < deadline, "the agent is not listening");
            thread::yield_now();
        }
        self
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Stops the agent after it has finished its work, and returns its output.
    pub fn end(mut self) -> String {
        let output = self.stop("-TERM").expect("it runs").unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn stop(&mut self, signal: &str) -> Option<io::Result<Output>> {
        let output = self.output.take()?;
        // Fails if the agent has exited already.
        let _ = Command::new("kill")
            .args([signal, &self.pid.to_string()])
            .output();
        Some(output.join().unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.stop("-KILL");
    }
}

/// Returns distinct loopback addresses with free ports.
pub fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    // All bound at the same time, so that they differ.
    let listeners = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}
