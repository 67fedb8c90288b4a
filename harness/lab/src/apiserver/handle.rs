//! From a request to its answer: who asks, whether they may, and who answers.

mod identity;
mod objects;
mod paths;
mod show;
mod subresources;

use std::sync::Arc;

use http::{Request, Response, request::Parts};
use hyper::body::Incoming;
use tracing::debug;

use super::{
    rbac::{self, Action},
    respond::{self, Body},
    route::{Query, Route},
    server::Server,
    status::Status,
    user::User,
};

/// Answers any request; what fails is answered with its [`Status`].
pub(crate) async fn handle(server: Arc<Server>, request: Request<Incoming>) -> Response<Body> {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let response = match answer(server, request).await {
        Ok(response) => response,
        Err(status) => {
            debug!(%method, %uri, code = status.code.as_u16(), "{status}");
            respond::status(&status)
        }
    };
    debug!(%method, %uri, code = response.status().as_u16(), "answered");
    response
}

async fn answer(server: Arc<Server>, request: Request<Incoming>) -> Result<Response<Body>, Status> {
    let route = Route::parse(request.uri().path());
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let user = identity::of_request(&server, request.headers())?;
    authorize(&server, &user, &route.action(request.method(), &query))?;
    match route {
        Route::Path(path) => paths::answer(&server, &path, request.headers()),
        Route::Resource(path) => {
            let call = Call {
                server,
                user,
                query,
            };
            objects::answer(call, &path, request).await
        }
    }
}

/// Who is not known and asks for more than everybody may have is asked to say who they are.
fn authorize(server: &Server, user: &User, action: &Action) -> Result<(), Status> {
    let refused = rbac::authorize(&server.rest, user, action);
    match refused {
        Err(_) if *user == User::anonymous() => Err(Status::unauthorized()),
        other => other,
    }
}

/// What the handlers of one request share.
struct Call {
    server: Arc<Server>,
    user: User,
    query: Query,
}

impl Call {
    /// On whose behalf fields are written: as the request says, or as the program calls itself.
    fn manager(&self, parts: &Parts) -> String {
        const LIMIT: usize = 128;
        let agent = parts.headers.get(http::header::USER_AGENT);
        let agent = agent
            .and_then(|agent| agent.to_str().ok())
            .unwrap_or_default();
        let program = agent
            .split('/')
            .next()
            .filter(|program| !program.is_empty());
        let name = self
            .query
            .get("fieldManager")
            .or(program)
            .unwrap_or("unknown");
        name.chars().take(LIMIT).collect()
    }
}
