use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use super::*;

fn ask(name: &str, kind: RecordType) -> (ResponseCode, Vec<String>) {
    let zones = Zones::new(&Settings::default()).unwrap();
    let answer = zones.answer(&Name::from_ascii(name).unwrap(), kind);
    let data = answer
        .answers
        .iter()
        .map(|record| record.data.to_string())
        .collect();
    (answer.code, data)
}

fn has(name: &str, kind: RecordType, data: &str) {
    assert_eq!(
        ask(name, kind),
        (ResponseCode::NoError, vec![data.to_owned()]),
        "{name}"
    );
}

#[test]
fn the_office_has_its_names_and_addresses() {
    has("intranet.office.test.", RecordType::A, "192.168.50.53");
    has("Router.Office.Test.", RecordType::A, "192.168.50.1");
    has("dns.office.test.", RecordType::A, "192.168.50.53");
    has("office.test.", RecordType::NS, "dns.office.test.");
    has("office.test.", RecordType::MX, "10 mail.office.test.");
    has("office.test.", RecordType::TXT, "v=spf1 mx -all");
    has(
        "53.50.168.192.in-addr.arpa.",
        RecordType::PTR,
        "intranet.office.test.",
    );
    has(
        "1.50.168.192.in-addr.arpa.",
        RecordType::PTR,
        "router.office.test.",
    );
    let soa = "dns.office.test. hostmaster.office.test. 1 7200 1800 86400 60";
    for apex in ["office.test.", "50.168.192.in-addr.arpa.", "."] {
        has(apex, RecordType::SOA, soa);
    }
}

#[test]
fn what_is_not_the_offices_does_not_exist() {
    let zones = Zones::new(&Settings::default()).unwrap();
    for (missing, zone) in [
        ("nobody.office.test.", "office.test."),
        ("7.50.168.192.in-addr.arpa.", "50.168.192.in-addr.arpa."),
        ("web.default.svc.cluster.local.", "."),
        ("2.1.96.10.in-addr.arpa.", "."),
        ("example.com.", "."),
    ] {
        let answer = zones.answer(&Name::from_ascii(missing).unwrap(), RecordType::A);
        assert_eq!(answer.code, ResponseCode::NXDomain, "{missing}");
        assert_eq!(answer.authorities[0].name.to_string(), zone, "{missing}");
    }
    assert_eq!(
        ask("intranet.office.test.", RecordType::AAAA),
        (ResponseCode::NoError, vec![])
    );
}

#[tokio::test]
async fn an_office_answers_and_tells_what_it_was_asked() {
    // Port 0 would do for one of the two only: nobody would know which it is.
    let free = |_| {
        std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
    };
    let [listen, web] = [(), ()].map(free);
    let settings = Settings {
        listen,
        web,
        ..Settings::default()
    };
    let _office = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(run_office(settings)));

    let page = loop {
        if let Ok(page) = page(web, "/").await {
            break page;
        }
        tokio::task::yield_now().await;
    };
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(page.contains("intranet.office.test"));

    let mut query = Message::new(7, MessageType::Query, OpCode::Query);
    let name = Name::from_ascii("Web.default.svc.cluster.local.").unwrap();
    query.add_query(Query::query(name, RecordType::A));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket
        .send_to(&query.to_vec().unwrap(), listen)
        .await
        .unwrap();
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer).await.unwrap();
    let answer = Message::from_vec(&buffer[..length]).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);

    let log = self::page(web, "/dns-log").await.unwrap();
    assert!(
        log.contains(r#""name":"web.default.svc.cluster.local.""#),
        "{log}"
    );
    assert!(
        self::page(web, "/nothing")
            .await
            .unwrap()
            .starts_with("HTTP/1.1 404")
    );
}

async fn page(server: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(server).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: office\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[test]
fn flags_replace_the_labs_own_office() {
    let parse = |text: &str| Settings::try_parse_from(text.split_whitespace());
    let settings =
        parse("--listen 127.0.0.1:5353 --domain example.test --address 10.0.0.5").unwrap();
    assert_eq!(settings.listen.port(), 5353);
    assert_eq!(
        (settings.domain.as_str(), settings.router),
        ("example.test", addresses::ROUTER)
    );
    assert!(parse("--address nowhere").is_err());
}
