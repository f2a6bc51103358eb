// llama.cpp behind one line of JSON a call, for benchmarks/engine_peers.py: node-llama-cpp brings it ready built for each
// kind of processor. First line: {package, model, threads, context, schema}. Then {ids, count}: read this prompt (what it
// shares with the one before is kept), write at most count tokens by the grammar. Answers with CPU seconds and tokens.
import {createInterface} from "node:readline";

const lines = createInterface({input: process.stdin})[Symbol.asyncIterator]();
const next = async () => {
    const {value, done} = await lines.next();
    return done ? null : JSON.parse(value);
};
const say = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");

const setup = await next();
const {getLlama, LlamaCompletion} = await import(setup.package);
const llama = await getLlama({gpu: false, build: "never", maxThreads: setup.threads, logLevel: "error"});
const model = await llama.loadModel({modelPath: setup.model});
const context = await model.createContext({contextSize: setup.context, threads: setup.threads, flashAttention: true});
const completion = new LlamaCompletion({contextSequence: context.getSequence()});
const grammar = await llama.createGrammarForJsonSchema(setup.schema);
say({ready: true});

for (let call = await next(); call !== null; call = await next()) {
    const before = process.cpuUsage();
    let written = 0;
    const text = await completion.generateCompletion(call.ids, {
        maxTokens: call.count, temperature: 0, grammar, onToken: (tokens) => { written += tokens.length; }
    });
    const used = process.cpuUsage(before);
    say({cpu: (used.user + used.system) / 1e6, written, text});
}
process.exit(0);
