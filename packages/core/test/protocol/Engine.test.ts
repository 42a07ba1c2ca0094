import { type ControlEvent, Engine, type Input, type State, transitions } from "@effect-ws/core/protocol/Engine"
import type { Role } from "@effect-ws/core/protocol/Frame"
import * as Utf8 from "@effect-ws/core/protocol/Utf8"
import type { Limits } from "@effect-ws/test-kit/ConformanceRule"
import * as Wire from "@effect-ws/test-kit/Wire"
import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { between, Cuts, splitAt } from "./chunks.ts"

const { binary, close, continuation, frame, more, ping, pong, text } = Wire

const unlimited: Limits = {
  maxMessageBytes: Number.MAX_SAFE_INTEGER,
  maxFragments: Infinity,
  maxControlFramesPerSecond: Infinity
}

const make = (role: Role = "server", limits: Partial<Limits> = {}) =>
  new Engine({ role, limits: { ...unlimited, ...limits }, utf8: Utf8.portable })

const sent = (role: Role, ...frames: ReadonlyArray<Wire.Frame>): Uint8Array =>
  Wire.encode(role === "server" ? "client" : "server", frames)

const receive = (engine: Engine, ...frames: ReadonlyArray<Wire.Frame>) => engine.receive(sent("server", ...frames), 0)

const ours = { code: 1001, reason: "ours" }
const theirs = { code: 3000, reason: "theirs" }

const inputs: Record<Input, (engine: Engine) => unknown> = {
  sendClose: (engine) => engine.sendClose(ours),
  receiveClose: (engine) => receive(engine, close(theirs.code, theirs.reason)),
  violate: (engine) => receive(engine, frame(0x3)),
  lose: (engine) => engine.lose("Remote")
}

const paths: Record<State["_tag"], ReadonlyArray<Input>> = {
  Open: [],
  CloseSent: ["sendClose"],
  CloseReceived: ["receiveClose"],
  Closed: ["sendClose", "receiveClose"],
  Failed: ["violate"],
  Lost: ["lose"]
}

const reach = (...path: ReadonlyArray<Input>): Engine => {
  const engine = make()
  for (const input of path) inputs[input](engine)
  return engine
}

const stays = <S extends State["_tag"]>(state: S) => ({
  sendClose: state,
  receiveClose: state,
  violate: state,
  lose: state
})

// Section 7, written out in full.
const expected: Record<State["_tag"], Record<Input, State["_tag"]>> = {
  Open: { sendClose: "CloseSent", receiveClose: "CloseReceived", violate: "Failed", lose: "Lost" },
  CloseSent: { sendClose: "CloseSent", receiveClose: "Closed", violate: "Failed", lose: "Lost" },
  CloseReceived: { sendClose: "Closed", receiveClose: "CloseReceived", violate: "CloseReceived", lose: "Lost" },
  Closed: stays("Closed"),
  Failed: stays("Failed"),
  Lost: stays("Lost")
}

describe("Engine", () => {
  describe("transitions", () => {
    for (const from of Object.keys(expected) as Array<State["_tag"]>) {
      for (const input of Object.keys(inputs) as Array<Input>) {
        const to = expected[from][input]
        it(`§7.1: ${input} ${to === from ? "changes nothing in" : `moves to ${to} from`} ${from}`, () => {
          const engine = reach(...paths[from])
          const before = engine.state
          assert.strictEqual(before._tag, from)
          inputs[input](engine)
          assert.strictEqual(engine.state._tag, to)
          if (to === from) assert.strictEqual(engine.state, before)
          const row: Partial<Record<Input, string>> = transitions[from]
          assert.strictEqual(row[input] ?? from, to)
        })
      }
    }

    it.prop("§7.1: Closed, Failed and Lost are final, whatever comes", {
      path: Schema.Array(Schema.Literals(["sendClose", "receiveClose", "violate", "lose"]))
    }, ({ path }) => {
      const engine = make()
      for (const input of path) {
        const before = engine.state
        inputs[input](engine)
        if (["Closed", "Failed", "Lost"].includes(before._tag)) assert.strictEqual(engine.state, before)
        assert.strictEqual(engine.state._tag, expected[before._tag][input])
      }
    })

    it("§5.5.1: a Close may be sent once", () => {
      for (const from of Object.keys(paths) as Array<State["_tag"]>) {
        const engine = reach(...paths[from])
        assert.strictEqual(engine.sendClose(ours), from === "Open" || from === "CloseReceived", from)
        assert.isFalse(engine.sendClose(ours), from)
      }
    })
  })

  describe("state", () => {
    it("§7.1.5: tells what was sent and received, and who began", () => {
      assert.deepStrictEqual(reach("sendClose").state, { _tag: "CloseSent", sent: ours })
      assert.deepStrictEqual(reach("receiveClose").state, { _tag: "CloseReceived", received: theirs })
      assert.deepStrictEqual(reach("sendClose", "receiveClose").state, {
        _tag: "Closed",
        received: theirs,
        initiator: "Local"
      })
      assert.deepStrictEqual(reach("receiveClose", "sendClose").state, {
        _tag: "Closed",
        received: theirs,
        initiator: "Remote"
      })
    })

    it("§7.1.7: a failed connection keeps the violation that it reported", () => {
      const engine = make()
      const [event] = receive(engine, frame(0x3))
      assert(event?._tag === "Violation")
      assert.deepStrictEqual(engine.state, { _tag: "Failed", violation: event.violation })
    })

    it("§7.1.5: a lost connection knows who gave it up", () => {
      for (const initiator of ["Local", "Remote"] as const) {
        const engine = make()
        engine.lose(initiator)
        assert.deepStrictEqual(engine.state, { _tag: "Lost", initiator })
      }
    })

    it("§7.1.5: a connection lost during our closing handshake was given up by us", () => {
      assert.deepStrictEqual(reach("sendClose", "lose").state, { _tag: "Lost", initiator: "Local" })
      assert.deepStrictEqual(reach("receiveClose", "lose").state, { _tag: "Lost", initiator: "Remote" })
    })
  })

  describe("takeMessages", () => {
    it("hands over everything that one chunk completed, once and in order", () => {
      const engine = make()
      assert.isUndefined(engine.takeMessages())
      receive(engine, text("a"), ping(), binary([1]), text("b", more), continuation("c"), text("d", more))
      assert.deepStrictEqual(engine.takeMessages(), ["a", Uint8Array.of(1), "bc"])
      assert.isUndefined(engine.takeMessages())
      receive(engine, continuation("e"))
      assert.deepStrictEqual(engine.takeMessages(), ["de"])
    })

    it("hands over as many as asked for, and the rest of the chunk later", () => {
      const engine = make()
      const chunk = sent("server", text("a"), ping(), text("b"), ping(), binary([1]), close())
      assert.strictEqual(engine.receive(chunk, 0, 2).length, 1)
      assert.deepStrictEqual(engine.takeMessages(), ["a", "b"])
      assert.isTrue(engine.hasMore)
      engine.keep()
      chunk.fill(0xee)
      assert.strictEqual(engine.proceed(0, 2).length, 2)
      assert.deepStrictEqual(engine.takeMessages(), [Uint8Array.of(1)])
      assert.isFalse(engine.hasMore)
      assert.strictEqual(engine.state._tag, "CloseReceived")
    })

    it("keeps messages that were not taken", () => {
      const engine = make()
      receive(engine, text("a"))
      receive(engine, text("b"))
      assert.deepStrictEqual(engine.takeMessages(), ["a", "b"])
    })

    it("§7.1.7: hands over what came before the end, whatever the end", () => {
      for (const ending of ["receiveClose", "violate", "lose"] as const) {
        const engine = make()
        receive(engine, text("a"))
        inputs[ending](engine)
        assert.deepStrictEqual(engine.takeMessages(), ["a"])
      }
    })
  })

  describe("partialBytes", () => {
    it("counts what has arrived of an unfinished message", () => {
      const engine = make()
      assert.strictEqual(engine.partialBytes, 0)
      receive(engine, binary([1, 2, 3], more))
      assert.strictEqual(engine.partialBytes, 3)
      receive(engine, ping("control frames are not part of it"))
      assert.strictEqual(engine.partialBytes, 3)
      receive(engine, continuation([4, 5], { announced: 10 }))
      assert.strictEqual(engine.partialBytes, 5)
      engine.receive(new Uint8Array(8), 0)
      assert.strictEqual(engine.partialBytes, 0)
      assert.strictEqual(engine.takeMessages()?.length, 1)
    })
  })

  describe("hostile bytes", () => {
    const Message = Schema.Struct({
      opcode: Schema.Literals([0x0, 0x0, 0x1, 0x2, 0x2, 0x8, 0x9, 0xa, 0x3]),
      fin: Schema.Boolean,
      rsv: Schema.Literals([0, 0, 0, 0, 0, 0, 0, 1]),
      payload: Schema.Uint8Array,
      announced: Schema.Union([Schema.Undefined, Schema.Literals([0, 5, 40, 125, 126, 5000, 2 ** 40])])
    })
    const Mutations = Schema.Array(Schema.Struct({ at: between(0, 0x7fff_ffff), byte: between(0, 255) })).check(
      Schema.isMaxLength(2)
    )
    const maxMessageBytes = 64

    const hostileLimits = { maxMessageBytes, maxFragments: 8, maxControlFramesPerSecond: 8 }

    class Receiver {
      private readonly events: Array<ControlEvent> = []
      private readonly messages: Array<string | Uint8Array> = []
      private readonly engine: Engine
      private readonly maxMessages: number

      constructor(engine: Engine, maxMessages = Infinity) {
        this.engine = engine
        this.maxMessages = maxMessages
      }

      receive(chunk: Uint8Array): void {
        const { engine, maxMessages } = this
        this.take(engine.receive(chunk.slice(), 0, maxMessages))
        if (engine.hasMore) engine.keep()
        while (engine.hasMore) this.take(engine.proceed(0, maxMessages))
      }

      get received() {
        return { events: this.events, messages: this.messages, state: this.engine.state }
      }

      private take(told: ReadonlyArray<ControlEvent>): void {
        this.events.push(...told)
        const taken = this.engine.takeMessages() ?? []
        this.messages.push(...taken)
        assert.isAtMost(taken.length, this.maxMessages)
        assert.isAtMost(this.engine.partialBytes, maxMessageBytes)
      }
    }

    const receiveAll = (role: Role, bytes: Uint8Array, cuts: ReadonlyArray<number>, maxMessages = Infinity) => {
      const receiver = new Receiver(make(role, hostileLimits), maxMessages)
      for (const chunk of splitAt(bytes, cuts)) receiver.receive(chunk)
      return receiver.received
    }

    const bytesOf = (
      role: Role,
      messages: ReadonlyArray<typeof Message.Type>,
      mutations: typeof Mutations.Type
    ): Uint8Array => {
      const bytes = sent(
        role,
        ...messages.map(({ announced, fin, opcode, payload, rsv }) =>
          frame(opcode, payload, { fin, rsv, announced: announced ?? payload.length })
        )
      )
      for (const { at, byte } of mutations) if (bytes.length > 0) bytes[at % bytes.length] = byte
      return bytes
    }

    const attack = (role: Role, bytes: Uint8Array, cuts: ReadonlyArray<number>) => {
      const received = receiveAll(role, bytes, [])
      assert.deepStrictEqual(receiveAll(role, bytes, cuts), received)
      assert.deepStrictEqual(receiveAll(role, bytes, cuts, 1), received)
      assert.isAtMost(received.events.length, 9)
      for (const message of received.messages) {
        assert.isAtMost(typeof message === "string" ? Buffer.byteLength(message) : message.length, maxMessageBytes)
      }
    }

    it.prop(
      "§10.4: any bytes at all are taken without a throw, within the limits, and the same however they are cut",
      {
        role: Schema.Literals(["server", "client"]),
        bytes: Schema.Uint8Array,
        cuts: Cuts
      },
      ({ bytes, cuts, role }) => attack(role, bytes, cuts),
      { arbitrary: { runs: 1000, size: 100 } }
    )

    it.prop(
      "§10.4: frames with any mistakes are taken without a throw, within the limits, and the same however they are cut",
      {
        role: Schema.Literals(["server", "client"]),
        messages: Schema.Array(Message),
        mutations: Mutations,
        cuts: Cuts
      },
      ({ cuts, messages, mutations, role }) => attack(role, bytesOf(role, messages, mutations), cuts),
      { arbitrary: { runs: 2000, size: 12 } }
    )

    it.prop(
      "engines see nothing of each other, whatever they are in the middle of",
      {
        peers: Schema.Array(Schema.Struct({
          role: Schema.Literals(["server", "client"]),
          maxMessageBytes: Schema.Literals([8, maxMessageBytes]),
          messages: Schema.Array(Message),
          mutations: Mutations,
          cuts: Cuts
        })).check(Schema.isMaxLength(3)),
        // Whose chunk is next.
        turns: Schema.Array(between(0, 2))
      },
      ({ peers, turns }) => {
        const all = peers.map(({ cuts, maxMessageBytes, messages, mutations, role }) => {
          const bytes = bytesOf(role, messages, mutations)
          const receiver = () => new Receiver(make(role, { ...hostileLimits, maxMessageBytes }))
          const alone = receiver()
          alone.receive(bytes)
          return { chunks: splitAt(bytes, cuts), receiver: receiver(), expected: alone.received }
        })
        for (const turn of turns) {
          const peer = all[turn]
          const chunk = peer?.chunks.shift()
          if (chunk !== undefined) peer!.receiver.receive(chunk)
        }
        for (const { chunks, expected, receiver } of all) {
          for (const chunk of chunks) receiver.receive(chunk)
          assert.deepStrictEqual(receiver.received, expected)
        }
      },
      { arbitrary: { runs: 1000, size: 12 } }
    )

    it("§10.4: a length that was only announced allocates nothing", () => {
      for (const opening of [binary, text]) {
        const engine = make()
        // More than any buffer can be: to allocate it would throw.
        assert.deepStrictEqual(receive(engine, opening("a".repeat(5000), { announced: 2 ** 52 })), [])
        assert.strictEqual(engine.partialBytes, 5000)
      }
    })

    it("§10.4: endless empty chunks, fragments and control frames hold nothing", () => {
      const engine = make()
      receive(engine, text("a", more))
      for (let i = 0; i < 10_000; i++) {
        engine.receive(new Uint8Array(0), 0)
        receive(engine, continuation("", more), ping(), pong())
      }
      assert.strictEqual(engine.partialBytes, 1)
      receive(engine, continuation())
      assert.deepStrictEqual(engine.takeMessages(), ["a"])
    })
  })
})
