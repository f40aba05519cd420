//! HTTP/3 on h3 and quinn, on tokio's current-thread runtime: a page for every GET, its own body for every POST.

use std::sync::Arc;

use bytes::Bytes;
use h3::server::Connection;
use peers::{
    Start,
    web::{self, Fault},
};
use quinn::{Endpoint, EndpointConfig, Incoming, TokioRuntime};
use tokio::runtime::Builder;

fn main() -> Result<(), Fault> {
    let start = Start::from_args();
    let page = web::page(start.page_bytes);
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let config = web::quinn_server()?;
        let endpoint = Endpoint::new(EndpointConfig::default(), Some(config), start.bind()?, Arc::new(TokioRuntime))?;
        while let Some(incoming) = endpoint.accept().await {
            tokio::spawn(serve(incoming, page.clone()));
        }
        Ok(())
    })
}

async fn serve(incoming: Incoming, page: Bytes) -> Result<(), Fault> {
    let connection = h3_quinn::Connection::new(incoming.await?);
    let mut connection: Connection<_, Bytes> = h3::server::builder().send_grease(false).build(connection).await?;
    while let Some(request) = connection.accept().await? {
        tokio::spawn(web::answer(request, page.clone()));
    }
    Ok(())
}
