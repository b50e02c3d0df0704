# shellcheck shell=bash
# One Kafka broker (KRaft) as an ordinary process: its jars by Maven, its data under .dev/kafka. Sourced by `dev`.

kafka_pom=$checkout/devtools/kafka-pom.xml
kafka_version=$(sed -n '/<artifactId>kafka_2.13</,/<version>/s/.*<version>\(.*\)<.*/\1/p' "$kafka_pom")
kafka_jars=$cache/kafka-$kafka_version
kafka_home=$state/kafka
kafka_config=$kafka_home/server.properties
kafka_log=$logs/kafka.log
kafka_pid_file=$runs/kafka.pid

kafka_pid() { # prints the broker's process number, false if it does not run
  local pid
  pid=$(cat "$kafka_pid_file" 2>/dev/null) || return 1
  runs_as "$pid" "kafka.Kafka $kafka_config" && echo "$pid"
}

kafka_get() {
  [[ -e $kafka_jars/.complete ]] && return
  say "getting Apache Kafka $kafka_version by Maven (about 45 MB, once)"
  local part=$kafka_jars.part
  rm -rf "$part" "$kafka_jars"
  mkdir -p "$part"
  mvn --batch-mode --quiet --strict-checksums --file "$kafka_pom" \
    org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies "-DoutputDirectory=$part" \
    > "$logs/maven.log" 2>&1 ||
    { show_log_end "$logs/maven.log"; die "Maven could not get Kafka: check the network and run again"; }
  touch "$part/.complete"
  mv "$part" "$kafka_jars"
}

kafka_write_config() {
  mkdir -p "$kafka_home"
  cat > "$kafka_config" <<EOF
node.id=1
process.roles=broker,controller
controller.quorum.voters=1@127.0.0.1:$kafka_controller_port
listeners=CLIENT://127.0.0.1:$kafka_port,CONTROLLER://127.0.0.1:$kafka_controller_port
advertised.listeners=CLIENT://127.0.0.1:$kafka_port
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=CLIENT
log.dirs=$kafka_home/data
# A killed broker is let in again only when its old registration has expired, after 9 s unless told. Less is too little:
# a controller that gets no CPU or disk for so long casts its own broker out, and every client with it.
broker.session.timeout.ms=9000
broker.heartbeat.interval.ms=1000

auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000

# A record of 1 MiB still fits after enrichment.
message.max.bytes=4194304
# Tests write records with any timestamp: none is too old to keep or too new to take.
log.retention.ms=-1
log.message.timestamp.after.max.ms=9223372036854775807
# Tests make many small topics.
log.index.size.max.bytes=1048576
log.cleaner.dedupe.buffer.size=16777216
EOF
}

kafka_format() {
  [[ -e $kafka_home/data/meta.properties ]] && return
  local id
  id=$(head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | cut -c 1-22)
  java -Xmx128m -cp "$kafka_jars/*" kafka.tools.StorageTool format --cluster-id "$id" --config "$kafka_config" \
    > "$logs/kafka-format.log" 2>&1 ||
    { show_log_end "$logs/kafka-format.log"; die "Kafka's storage could not be formatted"; }
}

# One ApiVersions request, answered: the broker serves requests.
kafka_answers() {
  # shellcheck disable=SC2016
  timeout 5 bash -c '
    exec 3<> "/dev/tcp/127.0.0.1/$0"
    printf "\0\0\0\x0a\0\x12\0\0\0\0\0\x01\xff\xff" >&3
    [[ $(head -c 8 <&3 | tail -c 4 | od -An -tu1 | tr -d " ") == 0001 ]]' "$kafka_port" 2>/dev/null
}

# The broker answers requests a little before it is let into its cluster; the line in its log comes after both.
kafka_ready_or_gone() {
  kafka_pid >/dev/null || return 0
  grep -q 'Kafka Server started' "$kafka_log" && kafka_answers
}

kafka_launch() {
  [[ ! -e $kafka_log ]] || mv "$kafka_log" "$kafka_log.1"
  (
    unlock_state
    cd "$kafka_home"
    exec setsid nohup java -Xms256m -Xmx1g -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -Djava.awt.headless=true \
      -Dorg.slf4j.simpleLogger.showDateTime=true "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS" \
      -Dorg.slf4j.simpleLogger.showThreadName=false \
      -cp "$kafka_jars/*" kafka.Kafka "$kafka_config" < /dev/null > "$kafka_log" 2>&1
  ) &
  echo $! > "$kafka_pid_file"
  # Until the process has become java, its command line is this script's.
  wait_until 60 kafka_pid >/dev/null || { show_log_end "$kafka_log"; die "Kafka did not start"; }
}

kafka_start() {
  kafka_pid >/dev/null && return
  need_port "$kafka_port" MILLSTREAM_DEV_KAFKA_PORT
  kafka_get
  kafka_write_config
  kafka_format
  kafka_launch
  if ! wait_until 90 kafka_ready_or_gone || ! kafka_pid >/dev/null; then
    show_log_end "$kafka_log"
    die "Kafka did not become ready: see $kafka_log"
  fi
}

kafka_stop() {
  local pid
  pid=$(kafka_pid) || return 0
  kill -TERM "$pid"
  wait_until 30 gone "$pid" "$kafka_config" || { say "Kafka does not stop by itself: killing it"; kafka_kill; }
}

kafka_kill() {
  local pid
  pid=$(kafka_pid) || return 0
  kill -KILL "$pid"
  wait_until 20 gone "$pid" "$kafka_config" || die "process $pid (Kafka) cannot be killed"
}
