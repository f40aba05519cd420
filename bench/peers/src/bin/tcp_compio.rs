//! TCP echo on compio.

use std::io;

use compio::{
    BufResult,
    driver::ProactorBuilder,
    io::{AsyncRead, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::RuntimeBuilder,
};
use peers::Start;

/// Entries of the ring: above the connections that become ready at once, so that a turn needs one submission.
const ENTRIES: u32 = 4_096;

fn main() -> io::Result<()> {
    let start = Start::from_args();
    let listener = start.listen()?;
    let mut proactor = ProactorBuilder::new();
    proactor.capacity(ENTRIES);
    RuntimeBuilder::new().with_proactor(proactor).build()?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            compio::runtime::spawn(echo(stream)).detach();
        }
    })
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        let BufResult(outcome, filled) = stream.read(buffer).await;
        if outcome? == 0 {
            return Ok(());
        }
        let BufResult(outcome, mut sent) = stream.write_all(filled).await;
        outcome?;
        sent.clear();
        buffer = sent;
    }
}
