//! temp
use testkit::wait::*; use testkit::workload::*; use testkit::*; use testkit::postgres::Stop;
fn main() -> anyhow::Result<()> {
    for version in [15, 18] { for via_root in [false, true] {
    scenario(seconds(100), async |stage| {
        let mut c = Cluster::start(stage, version, &[]).await?;
        stage.say("started");
        workload::create(&c, via_root).await?;
        let w = Workload::new(&c, Load { truncate_leaves: !via_root, ..Load::new(7) });
        w.during_seconds(4).await?;
        w.during(async { c.restart(Stop::Fast).await?; pause(seconds(2)).await; c.restart(Stop::Immediate).await?; pause(seconds(2)).await; c.restart(Stop::Kill).await }).await?;
        w.during_seconds(3).await?;
        let d = w.finish().await?;
        stage.say(format!("{d:?}"));
        for t in TABLES { stage.say(format!("{t} {:?}", c.value(&format!("select count(*) from {t}")).await?)); }
        Ok(())
    })?; } }
    scenario(seconds(200), async |stage| {
        let mut c = Cluster::start_anew(stage, 18, &[]).await?;
        c.stop(Stop::Fast).await?; let mut k = c.copy(stage)?; c.promote_at_start()?; c.resume().await?; k.resume().await?;
        c.execute_in("postgres", "create database shop").await?;
        stage.say(format!("{:?}", c.value("select timeline_id from pg_control_checkpoint()").await?));
        let m = s3::Server::ministack(stage).await?; stage.say("ministack");
        let p = Proxy::start(m.port)?;
        stage.say(http::get(p.port, "/lake?list-type=2").await?.text());
        p.set(proxy::Wire::Cut); stage.say(format!("{:?}", http::get(p.port, "/").await.is_err()));
        let l = Lister::start(lister::Place::Bucket { port: m.port, prefix: "some/prefix".into() })?; pause(seconds(2)).await; stage.say(format!("{:?}", l.finish()?));
        let s = s3::Server::s3rver(stage).await?; stage.say(format!("s3rver {}", s.port));
        let r = s3::Server::radosgw(stage).await?; stage.say(format!("radosgw {}", r.port));
        Ok(())
    })
}
