//! TCP echo on monoio's io_uring driver.

use std::io;

use monoio::{
    IoUringDriver, RuntimeBuilder,
    io::{AsyncReadRent, AsyncWriteRentExt},
    net::{TcpListener, TcpStream},
};
use peers::Start;

/// Entries of the ring: above the connections that become ready at once, so that a turn needs one submission.
const ENTRIES: u32 = 4_096;

fn main() -> io::Result<()> {
    let start = Start::from_args();
    let listener = start.listen()?;
    RuntimeBuilder::<IoUringDriver>::new().with_entries(ENTRIES).build()?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            monoio::spawn(echo(stream));
        }
    })
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        let (outcome, filled) = stream.read(buffer).await;
        if outcome? == 0 {
            return Ok(());
        }
        let (outcome, mut sent) = stream.write_all(filled).await;
        outcome?;
        sent.clear();
        buffer = sent;
    }
}
