//! The page in a browser: what it asks for, what it runs, and whether it fits.
//!
//! Needs `chromium` on the `PATH`; without it the test says so and passes, unless `CI` or `INROADS_REQUIRE_BROWSER` is
//! set. Where `INROADS_SCREENSHOTS` names a folder, pictures of the page are left there.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

#[path = "html/runs.rs"]
mod runs;

/// A browser with one page, spoken to by the DevTools protocol.
struct Browser {
    process: Child,
    socket: WebSocketStream<TcpStream>,
    session: String,
    last: u64,
    /// What it has told unasked.
    events: Vec<Value>,
    _profile: TempDir,
}

impl Browser {
    async fn start() -> Self {
        let profile = tempfile::tempdir().expect("a folder for the profile");
        let mut process = Command::new("chromium")
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
            ])
            .args([
                "--remote-debugging-port=0",
                "--no-first-run",
                "--disable-extensions",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("chromium starts");
        let mut said = BufReader::new(process.stderr.take().expect("it is piped")).lines();
        let address = loop {
            let line = said
                .next_line()
                .await
                .expect("text")
                .expect("it says where it listens");
            if let Some(address) = line.strip_prefix("DevTools listening on ") {
                break address.trim().to_owned();
            }
        };
        // What it says later is nobody's business, and must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
        let host = address
            .trim_start_matches("ws://")
            .split('/')
            .next()
            .expect("a host");
        let stream = TcpStream::connect(host).await.expect("it listens there");
        let (socket, _) = tokio_tungstenite::client_async(&address, stream)
            .await
            .expect("it speaks WebSocket");
        let mut browser = Self {
            process,
            socket,
            session: String::new(),
            last: 0,
            events: Vec::new(),
            _profile: profile,
        };
        let target = browser
            .ask("Target.createTarget", json!({"url": "about:blank"}))
            .await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.ask("Target.attachToTarget", attach).await;
        browser.session = attached["sessionId"]
            .as_str()
            .expect("a session")
            .to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.ask(&format!("{domain}.enable"), json!({})).await;
        }
        browser
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": params});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.socket
            .send(Message::text(message.to_string()))
            .await
            .expect("it listens");
        loop {
            let message = self.next().await;
            if message["id"] == json!(self.last) {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    async fn next(&mut self) -> Value {
        loop {
            let message = self
                .socket
                .next()
                .await
                .expect("it goes on")
                .expect("it speaks WebSocket");
            if let Message::Text(text) = message {
                return serde_json::from_str(&text).expect("it speaks JSON");
            }
        }
    }

    /// Waits for something that it tells unasked.
    async fn event(&mut self, method: &str) {
        while !self.events.iter().any(|it| it["method"] == method) {
            let message = self.next().await;
            self.events.push(message);
        }
    }

    async fn open(&mut self, url: &str) {
        self.events.clear();
        self.ask("Page.navigate", json!({"url": url})).await;
        self.event("Page.loadEventFired").await;
    }

    async fn eval(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.ask("Runtime.evaluate", asked).await;
        assert!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].clone()
    }

    async fn resize(&mut self, width: u32) {
        let size =
            json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600});
        self.ask("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// `light` or `dark`, `screen` or `print`.
    async fn emulate(&mut self, media: &str, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.ask(
            "Emulation.setEmulatedMedia",
            json!({"media": media, "features": features}),
        )
        .await;
    }

    /// Errors on the console, exceptions, and requests for anything but the page.
    fn complaints(&self, url: &str) -> Vec<String> {
        let complaint = |event: &Value| {
            let params = &event["params"];
            match event["method"].as_str().unwrap_or_default() {
                "Runtime.exceptionThrown" => true,
                "Runtime.consoleAPICalled" => params["type"] == "error",
                "Log.entryAdded" => params["entry"]["level"] == "error",
                "Network.requestWillBeSent" => {
                    let asked = params["request"]["url"].as_str().unwrap_or_default();
                    asked.split('#').next() != Some(url) && !asked.starts_with("data:")
                }
                _ => false,
            }
        };
        self.events
            .iter()
            .filter(|it| complaint(it))
            .map(ToString::to_string)
            .collect()
    }

    async fn picture(&mut self, to: &Path) {
        use base64::Engine as _;
        let whole = json!({"format": "png", "captureBeyondViewport": true});
        let picture = self.ask("Page.captureScreenshot", whole).await;
        let picture = picture["data"].as_str().expect("a picture");
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(picture)
            .expect("base64");
        std::fs::write(to, bytes).expect("the folder can be written to");
    }

    /// Asks it to end, and waits: its processes write to the profile until then.
    async fn stop(mut self) {
        self.session.clear();
        let ended = tokio::time::timeout(Duration::from_secs(10), async {
            self.ask("Browser.close", json!({})).await;
            self.process.wait().await
        });
        if ended.await.is_err() {
            self.process.kill().await.expect("it can be killed");
        }
    }
}

/// The contrast of two colours as `rgb(…)`: WCAG 2.2, "contrast ratio".
fn contrast(one: &str, two: &str) -> f64 {
    let luminance = |colour: &str| -> f64 {
        let inside = colour
            .trim_start_matches("rgba(")
            .trim_start_matches("rgb(");
        let parts = inside
            .split([',', ')'])
            .filter_map(|it| it.trim().parse::<f64>().ok());
        let linear = parts.take(3).map(|it| it / 255.0).map(|it| {
            if it <= 0.04045 {
                it / 12.92
            } else {
                ((it + 0.055) / 1.055).powf(2.4)
            }
        });
        linear
            .zip([0.2126, 0.7152, 0.0722])
            .map(|(it, weight)| it * weight)
            .sum()
    };
    let (one, two) = (luminance(one), luminance(two));
    (one.max(two) + 0.05) / (one.min(two) + 0.05)
}

#[test]
fn contrast_is_what_the_guidelines_say() {
    assert!((contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") - 21.0).abs() < 1e-9);
    assert!((contrast("rgb(119, 119, 119)", "rgb(255, 255, 255)") - 4.48).abs() < 0.01);
}

/// Elements whose text is too faint for what they stand on, where both are plain colours.
const FAINT: &str = r"(() => {
  const rgb = text => (text.match(/^rgba?\(([^)]*)\)$/) || [, ''])[1].split(',').map(Number);
  const luminance = c => c.slice(0, 3).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = e => { for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor; if (!/, 0\)$|transparent/.test(c)) return c; } return 'rgb(255, 255, 255)'; };
  const faint = new Set();
  for (const e of document.querySelectorAll('main *, nav *, footer *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    const text = rgb(e.closest('svg') ? getComputedStyle(e).fill : getComputedStyle(e).color), back = rgb(behind(e));
    if (text.length < 3 || back.length < 3) continue;
    const [a, b] = [luminance(text), luminance(back)];
    if ((Math.max(a, b) + .05) / (Math.min(a, b) + .05) < 4.5) faint.add(e.tagName + '.' + (e.getAttribute('class') || '') + ' ' + e.textContent.slice(0, 30));
  }
  return [...faint];
})()";

async fn look(browser: &mut Browser, url: &str) {
    for width in [1280, 390] {
        browser.resize(width).await;
        for scheme in ["light", "dark"] {
            browser.emulate("screen", scheme).await;
            browser.open(url).await;
            let complaints = browser.complaints(url);
            assert_eq!(complaints, Vec::<String>::new(), "{width} {scheme}");
            let wide = browser
                .eval("[document.documentElement.scrollWidth, innerWidth]")
                .await;
            assert!(
                wide[0].as_u64() <= Some(u64::from(width)),
                "{width}: the page is {wide}"
            );
            assert_eq!(browser.eval("typeof window.__pwned").await, "undefined");
            let missing = browser
                .eval("[...document.querySelectorAll('nav a')].filter(a => !document.querySelector(a.hash)).map(a => a.hash)")
                .await;
            assert_eq!(missing, json!([]), "sections that are missing");
            let sections = browser
                .eval("document.querySelectorAll('main > header, main > section').length")
                .await;
            assert_eq!(sections, json!(12));
            let colours = browser
                .eval("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
                .await;
            let (text, back) = (
                colours[0].as_str().expect("a colour"),
                colours[1].as_str().expect("a colour"),
            );
            assert!(contrast(text, back) >= 4.5, "{scheme}: {text} on {back}");
            let dark = contrast(back, "rgb(0, 0, 0)") < contrast(back, "rgb(255, 255, 255)");
            assert_eq!(dark, scheme == "dark", "{scheme}: on {back}");
            assert_eq!(
                browser.eval(FAINT).await,
                json!([]),
                "{width} {scheme}: too faint"
            );
            if let Some(folder) = std::env::var_os("INROADS_SCREENSHOTS") {
                let name = format!("{width}-{scheme}.png");
                browser.picture(&Path::new(&folder).join(name)).await;
            }
        }
    }
}

/// What the page does: the toggle, the links into the evidence, and paper.
async fn use_it(browser: &mut Browser, url: &str) {
    browser.resize(1280).await;
    browser.emulate("screen", "light").await;
    browser.open(url).await;
    let shown =
        "(['corrected', 'raw'].map(it => document.querySelector('div.' + it).offsetHeight > 0))";
    assert_eq!(browser.eval(shown).await, json!([true, false]));
    browser.eval("document.querySelector('#raw').click()").await;
    assert_eq!(browser.eval(shown).await, json!([false, true]));

    browser
        .eval("document.querySelector('.matrix a').click()")
        .await;
    let opened = "(it => [it.tagName, it.closest('details').open, it.offsetHeight > 0])(document.querySelector(':target'))";
    assert_eq!(browser.eval(opened).await, json!(["ARTICLE", true, true]));

    let reachable = "[...document.querySelectorAll('.wide')].every(it => it.tabIndex === 0)";
    assert_eq!(browser.eval(reachable).await, json!(true));

    browser.open(url).await;
    browser.emulate("print", "dark").await;
    // What is hidden is found out when a frame is drawn, and the style may be newer than the last one.
    let drawn =
        "new Promise(it => requestAnimationFrame(() => requestAnimationFrame(() => it(true))))";
    assert_eq!(browser.eval(drawn).await, json!(true));
    // A closed element is measured as it would be printed.
    let closed = "[...document.querySelectorAll('.evidence:not([open]) article')].filter(it => !it.checkVisibility({contentVisibilityAuto: true})).length";
    assert_eq!(
        browser.eval(closed).await,
        json!(0),
        "evidence that would not be on paper"
    );
    let cut = "[...document.querySelectorAll('.wide')].filter(it => getComputedStyle(it).overflowX !== 'visible').length";
    assert_eq!(
        browser.eval(cut).await,
        json!(0),
        "tables that would be cut"
    );
    assert_eq!(
        browser
            .eval("getComputedStyle(document.body).backgroundColor")
            .await,
        "rgb(255, 255, 255)"
    );
}

#[test]
fn the_page_fits_asks_for_nothing_and_runs_nothing() {
    let there = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|it| it.join("chromium").is_file()));
    if !there {
        let required = ["CI", "INROADS_REQUIRE_BROWSER"]
            .iter()
            .any(|it| std::env::var_os(it).is_some());
        assert!(
            !required,
            "there is no `chromium` on the PATH\n(hint: apt-get install chromium)"
        );
        eprintln!("skipped: there is no `chromium` on the PATH");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    std::fs::write(
        &path,
        inroads_reports::html(&runs::hostile(), Some(&runs::comparison())),
    )
    .unwrap();
    let url = format!("file://{}", path.display());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let started = tokio::time::timeout(Duration::from_secs(60), Browser::start()).await;
        let mut browser = started.expect("the browser starts within a minute");
        let looked = AssertUnwindSafe(async {
            look(&mut browser, &url).await;
            use_it(&mut browser, &url).await;
        });
        let looked = tokio::time::timeout(Duration::from_secs(120), looked.catch_unwind()).await;
        // A browser that is still there would write its profile anew while it is removed.
        browser.stop().await;
        if let Err(panic) = looked.expect("the browser answers within two minutes") {
            resume_unwind(panic);
        }
    });
}
